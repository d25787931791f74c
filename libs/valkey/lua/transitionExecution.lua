-- transitionExecution: compare-and-set on an execution's state, epoch and version, with no other effect (ADR 0008). For pause,
-- resume and the end of a stop that could not be proved. Transitions that also move nodes have scripts of their own.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 to · 5 JSON { from?, epoch?, version?, set?: { field: text } }
-- Returns { state, version } · refused: NOT_FOUND · INVALID_TRANSITION { from, to } · STALE_EPOCH · VERSION_CONFLICT
-- Events  execution.<to>
--!flags allow-oom
--!include base
--!include execution
local to = ARGV[4]
local expect = cjson.decode(ARGV[5])
local state = field('state')
if not state then return refuse('NOT_FOUND') end
if expect.epoch and number_field('epoch') ~= expect.epoch then return refuse('STALE_EPOCH', { epoch = number_field('epoch') }) end
if expect.version and number_field('version') ~= expect.version then
  return refuse('VERSION_CONFLICT', { version = number_field('version'), state = state })
end
if (expect.from and expect.from ~= state) or not allowed('execution', state, to) then
  return refuse('INVALID_TRANSITION', { entity = 'execution', id = EXE, from = state, to = to })
end
local event = {}
for name, value in pairs(expect.set or {}) do
  redis.call('HSET', exe_key, name, value)
  if name == 'reason' or name == 'actor' then event[name] = value end
  if name == 'error' then event.error = cjson.decode(value) end
end
move_execution(state, to, event)
return cjson.encode({ state = to, version = number_field('version') })

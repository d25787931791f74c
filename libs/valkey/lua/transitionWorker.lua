-- transitionWorker: compare-and-set on a worker's state. Repeatable with an expected version: only the worker itself and the
-- end of its lease write here, so a version one higher with the wanted state is the work of this very call.
-- KEYS[1] the worker's record
-- ARGV    1 control tag · 2 worker id · 3 settings · 4 to · 5 reason or '' · 6 version expected or ''
-- Returns { state, version } · refused: NOT_FOUND · INVALID_TRANSITION { from, to } · VERSION_CONFLICT
-- Events  worker.<to>
--!flags allow-oom
--!include base
--!include control
--!include worker
local state = redis.call('HGET', worker_key, 'state')
if not state then return refuse('NOT_FOUND') end
local version = tonumber(redis.call('HGET', worker_key, 'version'))
if ARGV[6] ~= '' and state == ARGV[4] and version == tonumber(ARGV[6]) + 1 then
  return cjson.encode({ state = state, version = version })
end
if ARGV[6] ~= '' and tonumber(ARGV[6]) ~= version then return refuse('VERSION_CONFLICT', { version = version, state = state }) end
local reason = ARGV[5] ~= '' and ARGV[5] or nil
if not move_worker(state, ARGV[4], reason) then
  return refuse('INVALID_TRANSITION', { entity = 'worker', id = WORKER, from = state, to = ARGV[4] })
end
return cjson.encode({ state = ARGV[4], version = version + 1 })

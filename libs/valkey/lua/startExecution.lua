-- startExecution: idle → running. Repeatable: for a running execution it answers the state.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings
-- Returns { state } · refused: NOT_FOUND · INVALID_TRANSITION { from, to } · LATCHED { latchId, kind, scope }
-- Events  execution.running
--!include base
--!include execution
--!include latch
local state = field('state')
if not state then return refuse('NOT_FOUND') end
if state == 'running' then return cjson.encode({ state = state }) end
if state ~= 'idle' or field('halting') then
  return refuse('INVALID_TRANSITION', { entity = 'execution', id = EXE, from = state, to = 'running' })
end
local latch = latch_over_start(nil, field('kinds') or '[]')
if latch then return refuse_latched(latch) end
move_execution('idle', 'running')
local timeout = field('timeoutMs')
if timeout then set_deadline(timeout) end
keep_advancing()
return cjson.encode({ state = 'running' })

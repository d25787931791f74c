-- resumeExecution: paused → running. Its deadline runs on from where it stood; advanceExecution hands over the parked attempts.
-- Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 actor
--         · 5 the latch that paused it and is engaged no more, or '' when a person resumes it
-- Returns { state, wasFrozen = its trees wait for the order that thaws them, mark = what holdOrdered
--           needs once the log has that order } · refused: NOT_FOUND · NOT_PAUSED { state }
--         · LATCHED { latchId, kind, scope }, for a person
-- Events  execution.running
--!flags allow-oom
--!include base
--!include execution
--!include latch
local state = field('state')
if not state then return refuse('NOT_FOUND') end
local released = ARGV[5]
if state == 'running' then return cjson.encode({ state = state, wasFrozen = field('thawing') ~= nil, mark = field('thawing') }) end
if released ~= '' and (state ~= 'paused' or field('heldBy') ~= released) then
  return cjson.encode({ state = state, wasFrozen = false })
end
if state ~= 'paused' then return refuse('NOT_PAUSED', { state = state }) end
if released == '' then
  -- A freeze over the execution refuses the resume too: its agents would stand still while its deadline ran.
  local latch = latch_over_execution()
  if latch then return refuse_latched(latch) end
else
  -- Another freeze keeps the execution paused. A latch does not: it keeps the nodes from being claimed, one by one.
  local other = latch_over_execution('freeze')
  if other then
    redis.call('HSET', exe_key, 'heldBy', other.id)
    return cjson.encode({ state = state, wasFrozen = false })
  end
end
local frozen = field('frozen')
move_execution('paused', 'running', { actor = ARGV[4] })
local mark
if frozen and released == '' then
  -- Kept until the log has the order that thaws the processes. A process that finds it left behind places that order. The
  -- version tells this resume's mark from that of a later one.
  mark = field('version')
  redis.call('HSET', exe_key, 'thawing', mark)
  redis.call('SADD', key('thawing'), EXE)
end
redis.call('HDEL', exe_key, 'frozen', 'heldBy', 'freezing')
redis.call('SREM', key('freezing'), EXE)
local left = field('deadlineLeftMs')
if left then
  redis.call('HDEL', exe_key, 'deadlineLeftMs')
  set_deadline(left)
end
-- advanceExecution hands parked attempts over, in bounded steps.
keep_advancing()
return cjson.encode({ state = 'running', wasFrozen = mark ~= nil, mark = mark })

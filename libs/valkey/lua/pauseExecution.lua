-- pauseExecution: running → paused: no node of the execution starts, and its deadline stands still. Running agents go on
-- (drain), or an order of their own freezes them (freeze). Repeatable; freezing a paused execution is allowed.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 mode: drain or freeze · 5 actor · 6 note or ''
--         · 7 the latch that pauses it, or '': its release resumes what it paused. A released latch pauses nothing
-- Returns { state, mark = what holdOrdered needs once the log has the order that freezes the processes } · refused: NOT_FOUND · INVALID_TRANSITION { from, to }
-- Events  execution.paused
--!flags allow-oom
--!include base
--!include execution
--!include latch
local state = field('state')
if not state then return refuse('NOT_FOUND') end
if state ~= 'paused' and not allowed('execution', state, 'paused') then
  return refuse('INVALID_TRANSITION', { entity = 'execution', id = EXE, from = state, to = 'paused' })
end
local held_by = ARGV[7]
if held_by ~= '' then
  local engaged = false
  for _, latch in ipairs(engaged_latches() or {}) do engaged = engaged or latch.id == held_by end
  if not engaged then return cjson.encode({ state = state }) end
end
if state == 'paused' then
  -- A user's pause stays when the latch that paused first is released, and no latch takes over a user's pause.
  if held_by ~= '' then return cjson.encode({ state = state }) end
  -- Without a freeze of its own the pause lets the processes run once the latch is released.
  if redis.call('HDEL', exe_key, 'heldBy') == 1 and ARGV[4] ~= 'freeze' then redis.call('HDEL', exe_key, 'frozen') end
end
if ARGV[4] == 'freeze' and held_by == '' then
  -- The thaw of an earlier resume, if no process has placed it yet, would undo this freeze. It would not undo a latch's, and
  -- the release of a latch does not thaw in its place.
  redis.call('HDEL', exe_key, 'thawing')
  redis.call('SREM', key('thawing'), EXE)
end
if ARGV[4] == 'freeze' and not field('frozen') then
  redis.call('HSET', exe_key, 'frozen', 1)
  bump()
end
if state == 'running' then
  if held_by ~= '' then redis.call('HSET', exe_key, 'heldBy', held_by) end
  local deadline = field('deadlineAt')
  if deadline then
    redis.call('HSET', exe_key, 'deadlineLeftMs', int(math.max(0, tonumber(deadline) - NOW)))
    redis.call('HDEL', exe_key, 'deadlineAt')
    redis.call('ZREM', key('deadlines'), EXE)
  end
  move_execution('running', 'paused', { actor = ARGV[5], data = { mode = ARGV[4], note = ARGV[6] ~= '' and ARGV[6] or nil } })
end
local mark
if ARGV[4] == 'freeze' and held_by == '' then
  -- Kept until the log has the order that freezes the processes. A process that finds it left behind places that order. The
  -- version tells this pause's mark from that of a pause after a resume: the process that was late with its order must not
  -- remove the other one's.
  mark = field('version')
  redis.call('HSET', exe_key, 'freezing', mark)
  redis.call('SADD', key('freezing'), EXE)
end
return cjson.encode({ state = 'paused', mark = mark })

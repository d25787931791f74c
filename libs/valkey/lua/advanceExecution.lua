-- advanceExecution: one bounded step of the work that is left in an execution. It undoes what a retry undoes, makes released
-- nodes ready, hands over again what a pause parked, skips nodes that cannot run, cancels the nodes that a stop leaves, and
-- ends the execution. Repeatable; the caller repeats it while `more` is true.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 most nodes to move in this call
-- Returns { state, more, entries = outbox entries to dispatch, dropped = [agent id,
--           pool] of cancelled attempts that were handed over, limited = there are limits: those may wait for one }
--         · refused: NOT_FOUND
-- Events  node.ready, node.skipped, node.cancelled, execution.completed | failed | stopped
--!flags allow-oom
--!include base
--!include execution
--!include retry
local limit = tonumber(ARGV[4])
-- To count down 500 dependants takes about as long as to move this many nodes.
local PIECE_COSTS = 50
local state = field('state')
if not state then
  redis.call('ZREM', key('advancing'), EXE)
  return refuse('NOT_FOUND')
end
local entries, dropped, moved = {}, {}, 0
local halting = state == 'idle' and field('halting')

local retrying = field('retrying') ~= nil
if state == 'running' and retrying then moved, retrying = reset_nodes(limit) end
if (state == 'running' or state == 'stopping') and not retrying then
  while moved < limit do
    local item = redis.call('LINDEX', todo_key, 0)
    if not item then break end
    moved = moved + 1
    local what, id = string.sub(item, 1, 1), string.sub(item, 2)
    -- A node whose record cannot be read stays first in line, and is moved once a person has mended it
    -- (docs/architecture.md#a-record-that-cannot-be-read).
    local node = what ~= 'R' and what ~= 'S' and read_node(id)
    redis.call('LPOP', todo_key)
    if what == 'R' or what == 'S' then
      local node_id, piece = string.match(id, '^(.-)\t(%d+)$')
      moved = moved + PIECE_COSTS
      if what == 'R' then release_dependants(node_id, 0, entries, tonumber(piece)) else skip_dependants(node_id, tonumber(piece)) end
    else
      if what == 's' then
        if node.s == 'pending' then
          move_node(id, node, 'skipped')
          skip_dependants(id)
          moved = moved + PIECE_COSTS / 10
        end
      elseif state == 'running' and node.s == 'pending' then
        make_ready(id, node, 0, entries)
      end
    end
  end
end
if state == 'running' and not retrying and moved < limit then
  for _, id in ipairs(redis.call('SPOP', exe_key .. ':parked', int(math.floor(limit - moved)))) do
    moved = moved + 1
    local text = redis.call('HGET', key('outbox'), id)
    if text then
      -- If the caller dies before it dispatches, a sweep of the outbox finds the entry due.
      redis.call('ZADD', key('outbox:at'), 'XX', int(NOW), id)
      local entry = cjson.decode(text)
      entry.delayMs = 0
      entries[#entries + 1] = entry
    end
  end
end
if state == 'stopping' or halting then
  local left = math.floor(limit - moved)
  if left > 0 then
    local reason = field('reason')
    for _, id in ipairs(redis.call('SRANDMEMBER', open_key, int(left))) do
      moved = moved + 1
      local node = read_node(id)
      node.r = reason
      if node.s == 'ready' then dropped[#dropped + 1] = { agent_id(node, node.a), node.p } end
      move_node(id, node, 'cancelled', { reason = reason })
    end
  end
  if halting and redis.call('SCARD', open_key) == 0 then
    move_execution('idle', 'stopped', { reason = field('reason'), actor = field('actor') })
  end
end
if moved > 0 then bump() end
local now_state = settle()
local more = retrying or redis.call('LLEN', todo_key) > 0
  or (now_state == 'running' and redis.call('SCARD', exe_key .. ':parked') > 0)
  or ((now_state == 'stopping' or halting) and redis.call('SCARD', open_key) > 0)
-- An execution that nobody started has no work of its own: a caller that repeats while `more` is true would never stop.
if now_state == 'idle' and not halting then more = false end
if now_state == 'completed' or now_state == 'failed' or now_state == 'stopped' or now_state == 'paused' then more = false end
if not more then redis.call('ZREM', key('advancing'), EXE) end
return cjson.encode({ state = now_state, more = more, entries = entries, dropped = dropped, limited = #dropped > 0 and limit_rules() ~= nil })

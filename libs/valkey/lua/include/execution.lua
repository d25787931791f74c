-- execution: reading, writing and moving one execution's record, and the events of everything in it.
-- Needs base. ARGV[2] is the execution id, ARGV[3] the JSON of the call's fixed settings:
--   { channel, executionEvents, shardChanges, retentionMs }
--!include parts
--!include limits
local EXE = ARGV[2]
local CONF = cjson.decode(ARGV[3])
local exe_key = key('exe:' .. EXE)
local nodes_key = exe_key .. ':nodes'
local agents_key = exe_key .. ':agents'
local open_key = exe_key .. ':open'
local todo_key = exe_key .. ':todo'
local live_key = exe_key .. ':live'
local said_key = exe_key .. ':said'

local function field(name) return redis.call('HGET', exe_key, name) or nil end
local function number_field(name) return tonumber(redis.call('HGET', exe_key, name) or '0') end
-- Each claim, new execution and retry of the shard counts one. By this count, and not by a clock, an order tells what began
-- before it (ADR 0015).
local function begin() return redis.call('INCR', key('births')) end
local function bump() redis.call('HINCRBY', exe_key, 'version', 1) end

-- An event as it is stored: short names, without the parts that its reader can restore (libs/lifecycle/src/decode-event.ts).
local AGENT_PREFIX = 'agt_' .. string.sub(EXE, 5)
local function compact(event)
  local entity, what = string.match(event.type, '^(%a+)%.(.*)$')
  -- The letter of an agent's events is also that of a question's, so questions get another.
  local kind = (entity == 'ask' and 'q' or string.sub(entity, 1, 1)) .. '.' .. what
  local to = event.to ~= what and event.to or nil
  local agent = event.agentId and string.sub(event.agentId, #AGENT_PREFIX + 1)
  local text = cjson.encode({
    q = event.seq, t = event.at, y = kind, n = event.nodeId, g = agent, w = event.workerId, a = event.attempt, f = event.from,
    o = to, r = event.reason, u = event.actor, x = event.error, d = event.data,
  })
  return text, kind, to
end

-- One event: numbered within its execution, appended to its stream, then published as a hint. The shard's list of changes gets
-- its place and type, not its content, for those who read all executions. A corrupt list must not keep a change from being made.
local function emit(event)
  event.seq = redis.call('HINCRBY', exe_key, 'seq', 1)
  event.at = NOW
  event.executionId = EXE
  local limit = math.min(number_field('n:total') * 16 + 1000, CONF.executionEvents)
  local text, kind, to = compact(event)
  local id = redis.call('XADD', exe_key .. ':events', 'MAXLEN', '~', int(limit), '*', 'e', text)
  redis.pcall('XADD', key('changes'), 'MAXLEN', '~', int(CONF.shardChanges), '*', 'x', string.sub(EXE, 5), 'i', id, 'y', kind,
    'o', to or '')
  redis.call('PUBLISH', CONF.channel, '{"id":"' .. id .. '",' .. string.sub(cjson.encode(event), 2))
end

-- The server allocates 4 KiB for a stream's first entries. A copy of a short stream takes only the memory that it needs.
local SHORT_STREAM = 500
local function shrink_stream(name)
  if redis.call('XLEN', name) > SHORT_STREAM then return end
  redis.call('COPY', name, name .. ':copy', 'REPLACE')
  redis.call('RENAME', name .. ':copy', name)
end

-- The records of an ended execution go after the retention. While an agent lives that could not be proved dead, kills need them.
local function expire_execution()
  if number_field('live') > 0 or redis.call('ZSCORE', key('expiry'), EXE) then return end
  redis.call('ZADD', key('expiry'), int(NOW + CONF.retentionMs), EXE)
  for _, suffix in ipairs(PARTS) do redis.call('PEXPIRE', exe_key .. suffix, int(CONF.retentionMs)) end
  local idem = field('idempotencyKey')
  if idem then redis.call('PEXPIRE', key('idem:' .. idem), int(CONF.retentionMs)) end
end

-- Moves the execution. The caller has checked that it exists. Each time is set once.
local function move_execution(from, to, event)
  if not allowed('execution', from, to) then return false end
  redis.call('HSET', exe_key, 'state', to)
  bump()
  local created = field('createdAt')
  redis.call('ZREM', key('idx:exe:' .. from), EXE)
  redis.call('ZADD', key('idx:exe:' .. to), created, EXE)
  if to == 'running' then
    redis.call('HSETNX', exe_key, 'startedAt', int(NOW))
  elseif to == 'completed' or to == 'failed' or to == 'stopped' then
    redis.call('HSETNX', exe_key, to == 'completed' and 'completedAt' or 'stoppedAt', int(NOW))
    redis.call('ZREM', key('deadlines'), EXE)
    redis.call('ZREM', key('advancing'), EXE)
    expire_execution()
  end
  event = event or {}
  event.type = 'execution.' .. to
  event.entity = 'execution'
  event.from = from
  event.to = to
  emit(event)
  if to == 'completed' or to == 'failed' or to == 'stopped' then shrink_stream(exe_key .. ':events') end
  -- Only nodes that may still run need this data, and a completed execution is never retried.
  if to == 'completed' then redis.call('UNLINK', exe_key .. ':specs', exe_key .. ':deps', exe_key .. ':outs') end
  return true
end

-- Node records: { i = index, s = state, a = attempt, b = attempts before the last retry, c = last attempt claimed, p = pool,
--         y = priority, f = failure allowed, d = milliseconds before its first attempt, e = error, r = reason }.
local function read_node(id)
  local text = redis.call('HGET', nodes_key, id)
  if not text then return nil end
  return cjson.decode(text)
end

-- The labels of the execution and of the node, merged, and their number.
local function merged_labels(node_spec)
  local labels = cjson.decode(field('labels') or '{}')
  for name, value in pairs(node_spec.labels or {}) do labels[name] = value end
  return labels
end

local function agent_id(node, attempt) return 'agt_' .. string.sub(EXE, 5) .. '-' .. int(node.i) .. '-' .. int(attempt) end

-- The attempts of a pool in this shard. `wait:<pool>` has the attempts that no worker has claimed, by the time from which each
-- may start; `live:<pool>` has those that a worker owns; `pools` names the pools that have either. Members are ids, so a repeat
-- changes nothing.
local function wait_in_pool(pool, id, at)
  redis.call('ZADD', key('wait:' .. pool), int(at), id)
  redis.call('SADD', key('pools'), pool)
end
local function forget_idle_pool(pool)
  if redis.call('EXISTS', key('wait:' .. pool), key('live:' .. pool)) == 0 then redis.call('SREM', key('pools'), pool) end
end

-- Moves a node, and updates the counts, the open set and the event stream with it.
local OPEN = { pending = true, ready = true, suspended = true }
local function move_node(id, node, to, event)
  local from = node.s
  if not allowed('node', from, to) then return false end
  node.s = to
  redis.call('HSET', nodes_key, id, cjson.encode(node))
  redis.call('HINCRBY', exe_key, 'n:' .. from, -1)
  redis.call('HINCRBY', exe_key, 'n:' .. to, 1)
  if OPEN[from] and not OPEN[to] then redis.call('SREM', open_key, id)
  elseif OPEN[to] and not OPEN[from] then redis.call('SADD', open_key, id) end
  if from == 'ready' then
    local dispatched = agent_id(node, node.a)
    redis.call('HDEL', key('outbox'), dispatched)
    redis.call('ZREM', key('outbox:at'), dispatched)
    redis.call('ZREM', key('wait:' .. node.p), dispatched)
    forget_idle_pool(node.p)
  end
  event = event or {}
  event.type = 'node.' .. to
  event.entity = 'node'
  event.nodeId = id
  event.from = from
  event.to = to
  emit(event)
  return true
end

-- Makes a node ready whose dependencies are done: its next attempt goes to the outbox, and to the caller for dispatch.
local function make_ready(id, node, delay, entries)
  if node.a == (node.b or 0) and node.d then delay = node.d end
  local rules = limit_rules()
  node.a = node.a + 1
  if not move_node(id, node, 'ready', { attempt = node.a }) then return end
  local entry = {
    agentId = agent_id(node, node.a), executionId = EXE, nodeId = id, attempt = node.a,
    pool = node.p, priority = node.y, delayMs = delay,
  }
  if rules then
    local names = limit_keys(rules, node.p, merged_labels(cjson.decode(redis.call('HGET', exe_key .. ':specs', id))))
    if #names > 0 then entry.limits = names end
  end
  redis.call('HSET', key('outbox'), entry.agentId, cjson.encode(entry))
  -- The server's clock decides when the attempt is due, even if the process that should hand it over dies.
  redis.call('ZADD', key('outbox:at'), int(NOW + delay), entry.agentId)
  wait_in_pool(node.p, entry.agentId, NOW + delay)
  entries[#entries + 1] = entry
end

-- Dependants are stored in pieces of at most 500: the first under the node's id, the next under id .. TAB .. number.
local function dependants(id, piece)
  local text = redis.call('HGET', exe_key .. ':outs', piece == 0 and id or id .. '\t' .. piece)
  if not text then return nil end
  return cjson.decode(text)
end

-- The janitor stops the execution after this many milliseconds.
local function set_deadline(left)
  local deadline = int(NOW + tonumber(left))
  redis.call('HSET', exe_key, 'deadlineAt', deadline)
  redis.call('ZADD', key('deadlines'), deadline, EXE)
end

-- Lists the execution as having more to do than one script may: the next caller of advance goes on, at the latest a janitor.
local function keep_advancing() redis.call('ZADD', key('advancing'), 'NX', int(NOW), EXE) end

-- Counts down one piece of a node's dependants. The first `budget` of them become ready here. The others go to the todo list:
-- ready nodes as 'r' .. id, the next piece as 'R' .. id .. TAB .. number.
local function release_dependants(id, budget, entries, piece)
  piece = piece or 0
  local ids = dependants(id, piece)
  if not ids then return end
  local running = field('state') == 'running'
  for _, next_id in ipairs(ids) do
    if redis.call('HINCRBY', exe_key .. ':deps', next_id, -1) == 0 then
      -- An unreadable dependant waits in the todo list, and does not leave this change half done
      -- (docs/architecture.md#a-record-that-cannot-be-read).
      local legible, node = pcall(read_node, next_id)
      if running and #entries < budget and legible and node then
        if node.s == 'pending' then make_ready(next_id, node, 0, entries) end
      else
        redis.call('RPUSH', todo_key, 'r' .. next_id)
        keep_advancing()
      end
    end
  end
  if redis.call('HEXISTS', exe_key .. ':outs', id .. '\t' .. (piece + 1)) == 1 then
    redis.call('RPUSH', todo_key, 'R' .. id .. '\t' .. (piece + 1))
    keep_advancing()
  end
end

local function skip_dependants(id, piece)
  piece = piece or 0
  local ids = dependants(id, piece)
  if not ids then return end
  for _, next_id in ipairs(ids) do redis.call('RPUSH', todo_key, 's' .. next_id) end
  if redis.call('HEXISTS', exe_key .. ':outs', id .. '\t' .. (piece + 1)) == 1 then
    redis.call('RPUSH', todo_key, 'S' .. id .. '\t' .. (piece + 1))
  end
  keep_advancing()
end

-- An agent's end was seen, but by a proof of a lower grade than asked for: a stop that depends on the agent is not called done.
local function doubt(id) redis.call('HSETNX', exe_key, 'doubted', id) end

-- Ends the execution when none of its nodes is left. Returns its state.
local function settle()
  local state = field('state')
  if state ~= 'running' and state ~= 'stopping' then return state end
  local n = redis.call('HMGET', exe_key, 'n:pending', 'n:ready', 'n:running', 'n:suspended', 'live',
    'n:failed', 'n:skipped', 'n:cancelled', 'allowed', 'stopTo', 'reason', 'actor', 'error', 'retrying')
  -- A retry is under way: not all nodes are pending again yet.
  if n[14] then return state end
  for i = 1, 5 do if tonumber(n[i]) > 0 then return state end end
  local to
  if state == 'stopping' then
    to = n[10]
    -- An attempt whose worker was lost may still run, so an expired lease does not prove a stop.
    local unproved = to == 'stopped' and redis.call('SRANDMEMBER', exe_key .. ':unproved')
    if unproved then
      to = 'failed'
      n[13] = cjson.encode({ code = 'UNCONFIRMED', message = 'Agent ' .. unproved .. ' could not be proved dead: its worker was lost.' })
      redis.call('HSET', exe_key, 'error', n[13])
    end
    local doubted = to == 'stopped' and field('doubted')
    if doubted then
      to = 'failed'
      n[13] = cjson.encode({ code = 'UNCONFIRMED', message = 'Agent ' .. doubted
        .. ' was seen dead by marks only, which an agent can strip; BELAY_PROOF asks for the kernel.' })
      redis.call('HSET', exe_key, 'error', n[13])
    end
  elseif tonumber(n[6]) - tonumber(n[9]) + tonumber(n[7]) + tonumber(n[8]) == 0 then to = 'completed'
  else to = 'failed' end
  local event = {}
  if to ~= 'completed' then
    event.reason = n[11] or 'error'
    redis.call('HSETNX', exe_key, 'reason', event.reason)
    if n[12] then event.actor = n[12] end
    if n[13] then event.error = cjson.decode(n[13]) end
  end
  move_execution(state, to, event)
  return to
end

-- running / paused → stopping, with the first reason kept. `stop` = { orderId, reason, actor, actorRole,
-- requestId, note, error, to }.
local function begin_stopping(from, stop)
  redis.call('HSET', exe_key, 'stopTo', stop.to or 'stopped', 'reason', stop.reason)
  redis.call('HDEL', exe_key, 'retrying', 'actorRole', 'requestId')
  if stop.orderId then redis.call('HSET', exe_key, 'orderId', stop.orderId) end
  -- Without an actor Belay itself stops the execution: for a budget, a deadline, a failure. The record names the actor.
  redis.call('HSET', exe_key, 'actor', stop.actor or 'belay')
  for _, name in ipairs({ 'actorRole', 'requestId' }) do
    if stop[name] then redis.call('HSET', exe_key, name, stop[name]) end
  end
  if stop.note then redis.call('HSET', exe_key, 'note', stop.note) end
  if stop.error then redis.call('HSET', exe_key, 'error', cjson.encode(stop.error)) end
  move_execution(from, 'stopping', { reason = stop.reason, error = stop.error, actor = stop.actor or 'belay' })
  keep_advancing()
end

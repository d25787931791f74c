-- finishAgent: one script for an agent's end, its node's next state, its dependants, and the execution's end if this agent was
-- the last. Repeatable: the same end again gets the same answer and writes nothing.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch
--         · 7 JSON { state: completed | failed | killed, exitCode?, signal?, reason?, error?, report? (text), costMicros?, costEstimated?, tokens?,
--                    suspend? = { name, maxAgeMs }: it completed its part, and its node waits for that signal,
--                    actor?, actorRole?, requestId?, orderId?, lost?: true when nothing proves that it is dead,
--                    doubted?: true when the proof is of a lower grade than asked for }
--         · 8 result (JSON text) or '' · 9 ms to wait before another attempt, or -1 for none
--         · 10 JSON { orderId, reason, actor?, actorRole?, requestId?, note? } when an order stops the whole execution, or ''
--         · 11 most dependants to make ready here
-- Returns { state = execution's, node = node's, entries, more, stopNeeded = live agents must be stopped by an order, repeated?,
--           limited = there are limits: its slot is to be given back }
--         · refused: NOT_FOUND · STALE_EPOCH · INVALID_TRANSITION
-- Events  agent.<state>, node.<state> (also node.suspended), node.ready, execution.stopping | completed | failed | stopped
--!flags allow-oom
--!include base
--!include execution
--!include agent
--!include suspend
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
local finish = cjson.decode(ARGV[7])
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
if agent.state == finish.state then
  return cjson.encode({ state = field('state'), node = read_node(agent.nodeId).s, entries = {}, more = false, stopNeeded = false, repeated = true,
    limited = limit_rules() ~= nil })
end
if not allowed('agent', agent.state, finish.state) then
  return refuse('INVALID_TRANSITION', { entity = 'agent', id = agent.id, from = agent.state, to = finish.state })
end

-- Read before anything is written: an unreadable record must not leave an end half stored
-- (docs/architecture.md#a-record-that-cannot-be-read).
local node_id = agent.nodeId
local node = read_node(node_id)
for _, name in ipairs({ 'exitCode', 'signal', 'reason', 'error', 'report', 'actor', 'orderId' }) do
  if finish[name] ~= nil then agent[name] = finish[name] end
end
local over = charge(agent, finish)
if finish.orderId then
  -- Lists the agent under the order, which may have ended it before it was named as a target.
  redis.call('SADD', key('ended:' .. finish.orderId), agent.id)
  redis.call('PEXPIRE', key('ended:' .. finish.orderId), int(CONF.retentionMs))
end
move_agent(agent, finish.state, { reason = finish.reason, error = finish.error, data = { exitCode = finish.exitCode, signal = finish.signal } })

local entries = {}
local state = field('state')
local active = state == 'running' or state == 'paused'
local stop = ARGV[10] ~= '' and cjson.decode(ARGV[10]) or nil
local retry_ms = tonumber(ARGV[9])
local current = node.s == 'running' and node.a == agent.attempt

if stop and active then
  begin_stopping(state, stop)
  state, active = 'stopping', false
end
if current then
  if finish.error then node.e = finish.error end
  if finish.reason then node.r = finish.reason end
  if finish.state == 'completed' and finish.suspend then
    if active then suspend_node(node_id, node, finish.suspend, entries)
    else move_node(node_id, node, 'cancelled', { agentId = agent.id, attempt = agent.attempt, reason = field('reason') }) end
  elseif finish.state == 'completed' then
    if ARGV[8] ~= '' then redis.call('HSET', exe_key .. ':results', node_id, ARGV[8]) end
    node.e, node.r = nil, nil
    move_node(node_id, node, 'completed', { agentId = agent.id, attempt = agent.attempt })
    if active then release_dependants(node_id, tonumber(ARGV[11]), entries) end
  elseif finish.state == 'failed' and retry_ms >= 0 and active then
    make_ready(node_id, node, retry_ms, entries)
  else
    local killed = finish.state == 'killed'
    move_node(node_id, node, killed and 'cancelled' or 'failed',
      { agentId = agent.id, attempt = agent.attempt, reason = finish.reason, error = finish.error })
    if not killed and node.f == 1 then
      redis.call('HINCRBY', exe_key, 'allowed', 1)
      if active then release_dependants(node_id, tonumber(ARGV[11]), entries) end
    elseif active then
      local failure = finish.error or { code = 'AGENT_KILLED', message = 'An agent of node ' .. node_id .. ' was killed.' }
      failure.nodeId = node_id
      redis.call('HSETNX', exe_key, 'error', cjson.encode(failure))
      skip_dependants(node_id)
      local rest = number_field('live') > 0 or redis.call('SCARD', open_key) > 0
      if killed then redis.call('HSETNX', exe_key, 'reason', finish.reason or 'killswitch') end
      if field('onFailure') == 'stop' and (rest or killed) then
        begin_stopping(state, { reason = killed and (finish.reason or 'killswitch') or 'error', actor = finish.actor,
          actorRole = finish.actorRole, requestId = finish.requestId,
          -- While other agents live, an order of its own must reach them.
          orderId = number_field('live') == 0 and finish.orderId or nil,
          error = failure, to = killed and 'stopped' or 'failed' })
        state, active = 'stopping', false
      end
    end
  end
end
if over and active then
  begin_stopping(state, { reason = 'budget_exceeded', error = over })
  state = 'stopping'
end
if state == 'stopping' and finish.orderId and number_field('live') == 0 and not field('orderId') then
  -- This order ended the last agent, so it stopped the execution, even if its placer has not stored that yet.
  redis.call('HSET', exe_key, 'orderId', finish.orderId)
end
if finish.lost then
  -- The attempt may still run: every order for it, and every stop of the execution, must report that until somebody proves it
  -- dead.
  redis.call('SADD', exe_key .. ':unproved', agent.id)
  redis.call('ZADD', key('unproved'), int(NOW), agent.id)
  -- A kill needs these facts after the execution's records have expired.
  redis.call('HSET', key('unproved:kept'), agent.id, cjson.encode({
    id = agent.id, executionId = EXE, nodeId = node_id, state = agent.state, reason = finish.reason, version = agent.version,
    epoch = agent.epoch, attempt = agent.attempt, owner = agent.owner, pool = agent.pool, labels = agent.labels, born = agent.born,
    pid = agent.pid, pidStartTime = agent.pidStartTime, containment = agent.containment, createdAt = agent.createdAt, costMicros = 0,
  }))
end
if finish.doubted and (state == 'stopping' or finish.orderId) then doubt(agent.id) end
bump()
local now_state = settle()
if state == now_state and (state == 'failed' or state == 'stopped' or state == 'completed') then expire_execution() end
return cjson.encode({
  state = now_state, node = node.s, entries = entries,
  more = redis.call('ZSCORE', key('advancing'), EXE) ~= false,
  limited = limit_rules() ~= nil,
  stopNeeded = now_state == 'stopping' and number_field('live') > 0 and not field('orderId'),
})

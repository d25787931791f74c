-- claimNode: the one act that lets an agent start. Checks execution, node and attempt, and gives the fencing number.
-- Repeatable: the same worker with the same token gets the same claim.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 node id · 5 agent id · 6 attempt · 7 worker id · 8 token
-- Returns { head JSON { epoch, claimedAt, graceMs?, name, previousId? }, node spec JSON, [dependency, result, …] }
--         · refused: NOT_FOUND · NOT_RUNNING { state } · TAKEN { state, attempt }
-- Events  agent.spawning, node.running
--!include base
--!include execution
--!include agent
local node_id, id, attempt, worker, token = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local state = field('state')
if not state then return { refuse('NOT_FOUND') } end
local node = read_node(node_id)
if not node then return { refuse('NOT_FOUND') } end
local agent = read_agent(id)

if not (agent and agent.owner == worker and agent.token == token and agent.state == 'spawning') then
  if state ~= 'running' then return { refuse('NOT_RUNNING', { state = state }) } end
  if node.s ~= 'ready' or node.a ~= attempt or agent_id(node, attempt) ~= id then
    return { refuse('TAKEN', { state = node.s, attempt = node.a }) }
  end
  agent = {
    id = id, executionId = EXE, nodeId = node_id, state = 'spawning', version = 0, attempt = attempt, owner = worker,
    token = token, pool = node.p, createdAt = NOW, costMicros = 0,
    epoch = redis.call('HINCRBY', exe_key, 'fence', 1),
  }
  if attempt > 1 then agent.previousId = agent_id(node, attempt - 1) end
  write_agent(agent)
  redis.call('HINCRBY', exe_key, 'live', 1)
  redis.call('SADD', live_key, id)
  redis.call('SADD', key('own:' .. worker), id)
  redis.call('ZADD', key('idx:agt:spawning'), int(NOW), id)
  emit({ type = 'agent.spawning', entity = 'agent', agentId = id, nodeId = node_id, workerId = worker, attempt = attempt, to = 'spawning' })
  node.c = attempt
  move_node(node_id, node, 'running', { agentId = id, attempt = attempt, workerId = worker })
  bump()
end

local spec = redis.call('HGET', exe_key .. ':specs', node_id)
local wanted = cjson.decode(spec).dependsOn
local upstream = {}
if #wanted > 0 then
  -- unpack is bounded by Lua's stack, and a node may have 100,000 dependencies.
  for first = 1, #wanted, 1000 do
    local last = math.min(first + 999, #wanted)
    local values = redis.call('HMGET', exe_key .. ':results', unpack(wanted, first, last))
    for i = first, last do
      local value = values[i - first + 1]
      if value then
        upstream[#upstream + 1] = wanted[i]
        upstream[#upstream + 1] = value
      end
    end
  end
end
local head = { epoch = agent.epoch, claimedAt = agent.createdAt, name = field('name'), previousId = agent.previousId }
local grace = field('graceMs')
if grace then head.graceMs = tonumber(grace) end
return { cjson.encode(head), spec, upstream }

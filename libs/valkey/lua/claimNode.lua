-- claimNode: no agent starts without this script. It checks worker, execution, node, attempt and latches, and gives the fencing
-- number. An attempt that a latch or a pause keeps from starting is parked: its next look is postponed, and a release brings it
-- forward. Repeatable: the same worker with the same token gets the same claim.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 node id · 5 agent id · 6 attempt · 7 worker id · 8 token
--         · 9 the grant of takeSlot, or 0 · 10 the version of the limits that it was asked for, or ''
-- Returns { head JSON { epoch, claimedAt, graceMs?, name, previousId?, pool, labels?, priorAttempts?, isRecovery? },
--           node spec JSON, the last checkpoint (JSON text) or '', the signal that woke its node (JSON text) or '' }
--         · refused: NOT_FOUND · NOT_RUNNING { state } · TAKEN { state, attempt }
--         · LIMITED { version, entry = outbox entry, names = what it counts under }: it needs a slot under these
--         · LATCHED { latchId, kind, scope } · GONE (the worker was declared lost)
--         · ENDED { state } (granted under this token, and over before it was heard of: nothing was started)
-- Events  agent.spawning, node.running
--!include base
--!include execution
--!include agent
--!include latch
local PARKED_MS = 60000
local node_id, id, attempt, worker, token = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local state = field('state')
if not state then return { refuse('NOT_FOUND') } end
local node = read_node(node_id)
if not node then return { refuse('NOT_FOUND') } end
local agent = read_agent(id)
local spec = redis.call('HGET', exe_key .. ':specs', node_id)
-- The specs are removed when an execution completes. The checks below refuse a job that comes later.
local node_spec = spec and cjson.decode(spec)

local function park(set)
  redis.call('SADD', set, id)
  redis.call('ZADD', key('outbox:at'), 'XX', int(NOW + PARKED_MS), id)
end

if not (agent and agent.owner == worker and agent.token == token and agent.state == 'spawning') then
  if agent and agent.owner == worker and agent.token == token and agent.state ~= 'running' then
    return { refuse('ENDED', { state = agent.state }) }
  end
  if redis.call('ZSCORE', key('gone'), worker) then return { refuse('GONE') } end
  if state ~= 'running' then
    if state == 'paused' and node.s == 'ready' then park(exe_key .. ':parked') end
    return { refuse('NOT_RUNNING', { state = state }) }
  end
  if node.s ~= 'ready' or node.a ~= attempt or agent_id(node, attempt) ~= id then
    return { refuse('TAKEN', { state = node.s, attempt = node.a }) }
  end
  local labels = merged_labels(node_spec)
  local latches = engaged_latches()
  local latch = latches and covering_latch(latches, { execution = EXE, agent = id, worker = worker, pool = node.p, labels = labels })
  if latch then
    -- A latch over one worker does not keep other workers from this attempt.
    if latch.scope.type ~= 'worker' then park(key('parked')) end
    return { refuse_latched(latch) }
  end
  local rules, version = limit_rules()
  local names = rules and limit_keys(rules, node.p, labels) or {}
  if #names > 0 then
    -- The janitor took back a slot that was granted and not used, so claims with that grant, or an older one, are refused.
    local void = tonumber(redis.call('GET', key('void:' .. id)) or '0')
    if tonumber(ARGV[9]) <= void or ARGV[10] ~= version then
      local entry = { agentId = id, executionId = EXE, nodeId = node_id, attempt = attempt, pool = node.p, priority = node.y, delayMs = 0 }
      return { refuse('LIMITED', { version = version, names = names, entry = entry }) }
    end
  end
  agent = {
    id = id, executionId = EXE, nodeId = node_id, state = 'spawning', version = 0, attempt = attempt, owner = worker,
    token = token, pool = node.p, createdAt = NOW, costMicros = 0, born = begin(),
    epoch = redis.call('HINCRBY', exe_key, 'fence', 1),
  }
  -- Empty labels are not stored, since cjson cannot tell an empty object from an empty list.
  if next(labels) then agent.labels = labels end
  agent.graceMs = node_spec.graceMs or tonumber(field('graceMs') or '') or nil
  if attempt > 1 then
    agent.previousId = agent_id(node, attempt - 1)
    local previous = read_agent(agent.previousId)
    if previous then
      -- A checkpoint is handed on from attempt to attempt until an attempt says a newer one (docs/agents.md#input).
      agent.checkpointOf = previous.checkpointOf
      agent.isRecovery = (previous.reason == 'worker_lost' or previous.reason == 'server_shutdown') or nil
    end
  end
  if node.b then agent.priorAttempts = node.b end
  write_agent(agent)
  redis.call('HINCRBY', exe_key, 'live', 1)
  redis.call('SADD', live_key, id)
  redis.call('SADD', key('own:' .. worker), id)
  redis.call('SADD', key('live:' .. node.p), id)
  redis.call('SADD', key('pools'), node.p)
  redis.call('ZADD', key('idx:agt:spawning'), int(NOW), id)
  emit({ type = 'agent.spawning', entity = 'agent', agentId = id, nodeId = node_id, workerId = worker, attempt = attempt, to = 'spawning' })
  node.c = attempt
  move_node(node_id, node, 'running', { agentId = id, attempt = attempt, workerId = worker })
  bump()
end

local head = { epoch = agent.epoch, claimedAt = agent.createdAt, born = agent.born, name = field('name'), previousId = agent.previousId,
  pool = agent.pool, labels = agent.labels, priorAttempts = agent.priorAttempts,
  isRecovery = agent.isRecovery }
local grace = field('graceMs')
if grace then head.graceMs = tonumber(grace) end
-- The worker reads the results of the dependencies in pieces, since together they may be gigabytes.
local checkpoint = agent.checkpointOf and redis.call('HGET', said_key, 'c:' .. agent.checkpointOf)
return { cjson.encode(head), spec, checkpoint or '', redis.call('HGET', said_key, 'k:' .. node_id) or '' }

-- proveAgent: stores late evidence that a lost attempt is dead: from its worker when it woke, or from another worker of its
-- host. The stored end does not change. The report is added, and the attempt no longer counts as unproved. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 report (JSON text)
--         · 7 1 when that proof is of a lower grade than asked for, or 0
-- Returns { state, proved = whether this call added it } · refused: NOT_FOUND · STALE_EPOCH (another owner)
-- Events  agent.proved
--!flags allow-oom
--!include base
--!include execution
--!include agent
local recorded = read_agent(ARGV[4])
local kept = redis.call('HGET', key('unproved:kept'), ARGV[4])
local proved_key = key('proved:' .. ARGV[4])
local before = not recorded and not kept and redis.call('GET', proved_key)
local agent = recorded or (kept and cjson.decode(kept)) or (before and cjson.decode(before))
if not agent then return refuse('NOT_FOUND') end
if agent.owner ~= ARGV[5] then return refuse('STALE_EPOCH', describe_agent(agent)) end
local proved = redis.call('SREM', exe_key .. ':unproved', agent.id) == 1 or kept ~= false
redis.call('ZREM', key('unproved'), agent.id)
redis.call('HDEL', key('unproved:kept'), agent.id)
if proved then
  agent.report = ARGV[6]
  local event = { type = 'agent.proved', entity = 'agent', agentId = agent.id, nodeId = agent.nodeId, workerId = agent.owner,
    attempt = agent.attempt, from = agent.state, to = agent.state }
  -- The execution's records may expire or be removed at once, while receipts that name the agent are settled later.
  redis.call('SET', proved_key, cjson.encode(agent), 'PX', int(CONF.retentionMs))
  if recorded then
    write_agent(agent)
    if ARGV[7] == '1' and field('state') == 'stopping' then doubt(agent.id) end
    bump()
    emit(event)
  else
    event.executionId, event.at = EXE, NOW
    redis.call('PUBLISH', CONF.channel, cjson.encode(event))
  end
end
return cjson.encode({ state = agent.state, proved = proved })

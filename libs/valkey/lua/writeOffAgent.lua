-- writeOffAgent: a person closed an order that names a lost attempt, so Belay stops looking for a proof of its death.
-- Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 order id · 6 by
-- Returns { writtenOff = whether this call did it }
-- Events  agent.written-off
--!flags allow-oom
--!include base
--!include execution
--!include agent
local kept = redis.call('HDEL', key('unproved:kept'), ARGV[4])
local listed = redis.call('ZREM', key('unproved'), ARGV[4])
local held = redis.call('SREM', exe_key .. ':unproved', ARGV[4])
local agent = held == 1 and read_agent(ARGV[4])
if agent then
  bump()
  emit({ type = 'agent.written-off', entity = 'agent', agentId = agent.id, nodeId = agent.nodeId, workerId = agent.owner,
    attempt = agent.attempt, from = agent.state, to = agent.state, actor = ARGV[6], data = { orderId = ARGV[5] } })
end
return cjson.encode({ writtenOff = kept + listed + held > 0 })

-- markFrozen: stores that an agent's processes are frozen, or run again. Fenced by owner and epoch. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch · 7 frozen: 1 or 0 · 8 order id or ''
-- Returns { state } · refused: NOT_FOUND · STALE_EPOCH
-- Events  agent.frozen or agent.thawed
--!flags allow-oom
--!include base
--!include execution
--!include agent
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
local wanted = ARGV[7] == '1' or nil
local live = agent.state == 'spawning' or agent.state == 'running'
if live and agent.frozen ~= wanted then
  agent.frozen = wanted
  write_agent(agent)
  bump()
  emit({ type = wanted and 'agent.frozen' or 'agent.thawed', entity = 'agent', agentId = agent.id, nodeId = agent.nodeId,
    workerId = agent.owner, attempt = agent.attempt, from = agent.state, to = agent.state,
    data = ARGV[8] ~= '' and { orderId = ARGV[8] } or nil })
end
return cjson.encode({ state = agent.state })

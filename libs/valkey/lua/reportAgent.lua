-- reportAgent: what a live agent said: cost so far, progress, checkpoint, events. Repeatable by message number.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch
--         · 7 JSON { costMicros?, progress? (text), checkpoint? (text), badLines?, droppedEvents? }
--         · 8 JSON array of { n, name, data? (text) }, n counting up from 1 over the agent's life
-- Returns { overBudget } · refused: NOT_FOUND · STALE_EPOCH · ENDED { state }
-- Events  agent.event for each new event; execution.stopping when the hard budget is passed
--!flags allow-oom
--!include base
--!include execution
--!include agent
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
if agent.state ~= 'running' and agent.state ~= 'spawning' then return refuse('ENDED', { state = agent.state }) end
local said = cjson.decode(ARGV[7])
local over = false
if said.costMicros then over = add_cost(agent, said.costMicros) end
if said.progress then agent.progress = said.progress end
if said.checkpoint then agent.checkpoint = said.checkpoint end
if said.badLines then agent.badLines = said.badLines end
if said.droppedEvents then agent.droppedEvents = said.droppedEvents end
for _, event in ipairs(cjson.decode(ARGV[8])) do
  if event.n > (agent.lastMessage or 0) then
    agent.lastMessage = event.n
    emit({ type = 'agent.event', entity = 'agent', agentId = agent.id, nodeId = agent.nodeId, workerId = agent.owner,
      attempt = agent.attempt, data = { name = event.name, value = event.data } })
  end
end
write_agent(agent)
bump()
local state = field('state')
if over and (state == 'running' or state == 'paused') then
  begin_stopping(state, { reason = 'budget_exceeded',
    error = { code = 'BUDGET_EXCEEDED', message = 'The execution spent more than its maxCostUsd.' } })
end
return cjson.encode({ overBudget = over })

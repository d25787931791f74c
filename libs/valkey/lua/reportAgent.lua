-- reportAgent: stores messages of a live agent: cost so far, progress, checkpoint, events. Repeatable by message number.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch
--         · 7 JSON { costMicros?, costEstimated?, tokens?, badLines?, dropped? = totals of what was not kept }
--         · 8 JSON array of { n, name, data? (text) } or { n, dropped = totals }, n counting up from 1 over the agent's life
--         · 9 progress (JSON text) or '' · 10 checkpoint (JSON text) or ''
-- Returns { overBudget } · refused: NOT_FOUND · STALE_EPOCH · ENDED { state }
-- Events  agent.event for each new event, agent.dropped; execution.stopping when the hard budget is passed
--!flags allow-oom
--!include base
--!include execution
--!include agent
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
if agent.state ~= 'running' and agent.state ~= 'spawning' then return refuse('ENDED', { state = agent.state }) end
local said = cjson.decode(ARGV[7])
local over = charge(agent, said)
-- Beside the record, since every script decodes and encodes the record, and these may be large.
if ARGV[9] ~= '' then redis.call('HSET', said_key, 'p:' .. agent.id, ARGV[9]) end
if ARGV[10] ~= '' then
  redis.call('HSET', said_key, 'c:' .. agent.id, ARGV[10])
  agent.checkpointOf = agent.id
end
if said.badLines then agent.badLines = said.badLines end
if said.dropped then agent.dropped = said.dropped end
for _, event in ipairs(cjson.decode(ARGV[8])) do
  if event.n > (agent.lastMessage or 0) then
    agent.lastMessage = event.n
    local told = event.dropped and { type = 'agent.dropped', data = event.dropped }
      or { type = 'agent.event', data = { name = event.name, value = event.data } }
    told.entity, told.agentId, told.nodeId, told.workerId, told.attempt = 'agent', agent.id, agent.nodeId, agent.owner, agent.attempt
    emit(told)
  end
end
write_agent(agent)
bump()
local state = field('state')
if over and (state == 'running' or state == 'paused') then
  begin_stopping(state, { reason = 'budget_exceeded', error = over })
end
return cjson.encode({ overBudget = over ~= nil })

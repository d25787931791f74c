-- startAgent: spawning → running, with the process's identity. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch · 7 JSON { pid, pidStartTime, containment }
-- Returns { state, stopping = true when a stop has begun meanwhile, orderId?, reason? }
--         · refused: NOT_FOUND · STALE_EPOCH · INVALID_TRANSITION
-- Events  agent.running
--!flags allow-oom
--!include base
--!include execution
--!include agent
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
local started = cjson.decode(ARGV[7])
if agent.state ~= 'running' then
  if not allowed('agent', agent.state, 'running') then
    return refuse('INVALID_TRANSITION', { entity = 'agent', id = agent.id, from = agent.state, to = 'running' })
  end
  agent.pid = started.pid
  agent.pidStartTime = started.pidStartTime
  agent.containment = started.containment
  move_agent(agent, 'running', { data = { pid = started.pid } })
  bump()
end
local state = field('state')
return cjson.encode({ state = 'running', stopping = state ~= 'running' and state ~= 'paused', orderId = field('orderId'), reason = field('reason') })

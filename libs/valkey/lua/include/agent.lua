-- agent: reading, writing and moving one agent's record. Needs base and execution. A record is one JSON field of the
-- execution's agents hash. The report of its end stays text inside it, because decoding and encoding in Lua would turn empty
-- arrays into objects. Progress (`p:<agent>`) and checkpoint (`c:<agent>`) are fields of the `said` hash; `checkpointOf` names
-- the attempt with the newest checkpoint. `asks` counts the questions that the agent asked.
--!include question
local function read_agent(id)
  local text = redis.call('HGET', agents_key, id)
  if not text then return nil end
  local agent = cjson.decode(text)
  agent.id, agent.executionId = id, EXE
  return agent
end

-- The field's name is the agent's id and the key contains the execution's id, so the record stores neither.
local function write_agent(agent)
  agent.version = agent.version + 1
  local id = agent.id
  agent.id, agent.executionId = nil, nil
  redis.call('HSET', agents_key, id, cjson.encode(agent))
  agent.id, agent.executionId = id, EXE
end

-- A list shows at most this many of a shard's newest ended agents.
local ENDED_LISTED = 20000

local function describe_agent(agent)
  return { id = agent.id, state = agent.state, epoch = agent.epoch, owner = agent.owner, version = agent.version }
end

-- True when the writer is not the owner of the claim, or its epoch is old (docs/architecture.md#leases-and-fencing).
local function fenced(agent, owner, epoch) return agent.owner ~= owner or int(agent.epoch) ~= int(epoch) end

local function move_agent(agent, to, event)
  local from = agent.state
  if not allowed('agent', from, to) then return false end
  agent.state = to
  if from == 'spawning' or from == 'running' then redis.call('ZREM', key('idx:agt:' .. from), agent.id) end
  if to == 'running' then
    agent.startedAt = agent.startedAt or NOW
    -- Only a repeat of a claim whose answer was lost needs the token, and the attempt of such a claim started nothing.
    agent.token = nil
    redis.call('ZADD', key('idx:agt:running'), int(agent.createdAt), agent.id)
  else
    agent.frozen, agent.frozenBy = nil, nil
    if to == 'completed' then agent.completedAt = NOW else agent.stoppedAt = NOW end
    -- The indices first: a key of another type ends the script here, before anything is counted.
    redis.call('ZADD', key('idx:agt:ended'), int(NOW), agent.id)
    redis.call('ZREMRANGEBYRANK', key('idx:agt:ended'), 0, -ENDED_LISTED - 1)
    redis.call('SREM', key('own:' .. agent.owner), agent.id)
    if agent.pool then
      redis.call('SREM', key('live:' .. agent.pool), agent.id)
      forget_idle_pool(agent.pool)
    end
    redis.call('SREM', live_key, agent.id)
    redis.call('HINCRBY', exe_key, 'live', -1)
  end
  write_agent(agent)
  if to ~= 'running' and agent.asks then cancel_questions(agent) end
  event = event or {}
  event.type = 'agent.' .. to
  event.entity = 'agent'
  event.agentId = agent.id
  event.nodeId = agent.nodeId
  event.workerId = agent.owner
  event.attempt = agent.attempt
  event.from = from
  event.to = to
  emit(event)
  return true
end

-- A number in Lua is a double: above this it is not exact.
local MAX_WHOLE = 9e15

-- At least two decimals, and every digit that tells a cost from its budget.
local function dollars(micros)
  local text = string.format('$%.6f', micros / 1e6)
  return (string.gsub(text, '0?0?0?0$', ''))
end

local function tokens(count) return int(count) .. ' tokens' end

-- The budgets of an execution: `spent`, `soft`, `hard` and `told` are fields of its record, `names` the words of an event,
-- `unit` divides a field into the unit of those words.
local BUDGETS = {
  { spent = 'costMicros', soft = 'softCostMicros', hard = 'maxCostMicros', told = 'softTold', unit = 1e6, show = dollars,
    names = { 'costUsd', 'softCostUsd' } },
  { spent = 'tokens', soft = 'softTokens', hard = 'maxTokens', told = 'softTokensTold', unit = 1, show = tokens,
    names = { 'tokens', 'softTokens' } },
}

-- An agent reports sums, which are whole and only grow, so a repeated report adds nothing.
-- Returns the error of the hard budget that this report passes, or nil.
local function spend(agent, budget, sum)
  if type(sum) ~= 'number' then return nil end
  local more = math.min(sum, MAX_WHOLE) - (agent[budget.spent] or 0)
  if more <= 0 then return nil end
  agent[budget.spent] = math.min(sum, MAX_WHOLE)
  local total = math.min(number_field(budget.spent) + more, MAX_WHOLE)
  redis.call('HSET', exe_key, budget.spent, int(total))
  local soft = tonumber(field(budget.soft) or '')
  if soft and total > soft and redis.call('HSETNX', exe_key, budget.told, 1) == 1 then
    emit({ type = 'execution.soft-budget', entity = 'execution', agentId = agent.id, nodeId = agent.nodeId,
      data = { [budget.names[1]] = total / budget.unit, [budget.names[2]] = soft / budget.unit } })
  end
  local limit = tonumber(field(budget.hard) or '')
  if not limit or total <= limit then return nil end
  return { code = 'BUDGET_EXCEEDED', message = 'Spent ' .. budget.show(total) .. ' of a budget of ' .. budget.show(limit) .. '.' }
end

-- Charges a report to every budget. Returns the error of the first hard budget that the report passes, or nil.
local function charge(agent, said)
  local passed
  for _, budget in ipairs(BUDGETS) do
    local over = spend(agent, budget, said[budget.spent])
    passed = passed or over
  end
  if said.costEstimated and not agent.costEstimated then
    agent.costEstimated = true
    redis.call('HSET', exe_key, 'costEstimated', 1)
  end
  return passed
end

-- Stores the effect of a passed deadline, or of the attempt's end, on a question. Every script that reads a question does so
-- first.
local function settle_question(question)
  if question.state ~= 'open' or passed_deadline(question) then return end
  local agent = read_agent(question.agentId)
  local lives = agent and (agent.state == 'spawning' or agent.state == 'running') and int(agent.epoch) == int(question.epoch)
  local state = field('state')
  if not lives or (state ~= 'running' and state ~= 'paused') then
    close_question(question, 'cancelled', { answer = 'denied', why = 'ended', by = 'belay' })
  end
end

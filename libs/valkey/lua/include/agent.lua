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
    agent.frozen = nil
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
local MAX_MICROS = 9e15

-- Costs are whole micro-dollars and only grow, so a report that is repeated adds nothing.
-- Returns true when the execution's hard limit is passed now.
local function add_cost(agent, micros)
  if type(micros) ~= 'number' then return false end
  local more = math.min(micros, MAX_MICROS) - (agent.costMicros or 0)
  if more <= 0 then return false end
  agent.costMicros = math.min(micros, MAX_MICROS)
  local total = math.min(number_field('costMicros') + more, MAX_MICROS)
  redis.call('HSET', exe_key, 'costMicros', int(total))
  local soft = tonumber(field('softCostMicros') or '')
  if soft and total > soft and redis.call('HSETNX', exe_key, 'softTold', 1) == 1 then
    emit({ type = 'execution.soft-budget', entity = 'execution', agentId = agent.id, nodeId = agent.nodeId,
      data = { costUsd = total / 1e6, softCostUsd = soft / 1e6 } })
  end
  local limit = field('maxCostMicros')
  return limit ~= nil and total > tonumber(limit)
end

-- At least two decimals, and every digit that tells a cost from its budget.
local function dollars(micros)
  local text = string.format('$%.6f', micros / 1e6)
  return (string.gsub(text, '0?0?0?0$', ''))
end

-- The error of an execution that has passed its budget.
local function budget_error()
  return { code = 'BUDGET_EXCEEDED',
    message = 'Spent ' .. dollars(number_field('costMicros')) .. ' of a budget of ' .. dollars(number_field('maxCostMicros')) .. '.' }
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

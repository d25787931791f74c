-- question: reading, writing and closing one question (ADR 0026). Needs base and execution. The `asks` hash has its record as
-- JSON under its id, and its words as JSON text under `w:` and the id: no script decodes the words.
-- Under `r:`, the agent, its epoch and the number of a request it has the id of the question that this request stored.
-- `asks:due` of the shard lists the open ones by deadline.
local asks_key = exe_key .. ':asks'

local function read_question(id)
  local text = redis.call('HGET', asks_key, id)
  if not text then return nil end
  local question = cjson.decode(text)
  question.id = id
  return question
end

local function write_question(question)
  local id = question.id
  question.id = nil
  redis.call('HSET', asks_key, id, cjson.encode(question))
  question.id = id
end

local function tell_question(question, what, from, to, by, data)
  data.questionId = question.id
  emit({ type = 'ask.' .. what, entity = 'question', agentId = question.agentId, nodeId = question.nodeId,
    attempt = question.attempt, from = from, to = to, actor = by, data = data })
end

-- `fields` = { answer, why, by?, role?, requestId?, reason?, next?, request? = the answer's own id }. A question leaves `open`
-- only once.
local function close_question(question, to, fields)
  if not allowed('question', question.state, to) then return false end
  local from = question.state
  for name, value in pairs(fields) do question[name] = value end
  question.state = to
  -- A question that closes by its deadline ended at the deadline, even if nobody looked at it in time.
  question.endedAt = fields.why == 'deadline' and question.deadlineAt or NOW
  write_question(question)
  redis.call('ZREM', key('asks:due'), question.id)
  bump()
  tell_question(question, to, from, to, fields.by, { answer = question.answer, why = question.why, next = question.next })
  return true
end

-- A passed deadline came before any other cause that closes the question now.
local function passed_deadline(question)
  if question.state ~= 'open' or NOW < question.deadlineAt then return false end
  return close_question(question, 'denied', { answer = 'denied', why = 'deadline', by = 'belay' })
end

-- Closes the questions of an ended agent, since nobody waits for the answers. An unreadable question is left for its readers,
-- and does not leave the agent's end half stored (docs/architecture.md#a-record-that-cannot-be-read).
local function cancel_questions(agent)
  for n = 1, agent.asks or 0 do
    local legible, question = pcall(read_question, 'ask_' .. string.sub(agent.id, 5) .. '-' .. int(n))
    if legible and question and question.state == 'open' and not passed_deadline(question) then
      close_question(question, 'cancelled', { answer = 'denied', why = 'ended', by = 'belay' })
    end
  end
end

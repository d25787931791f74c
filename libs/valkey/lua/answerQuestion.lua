-- answerQuestion: stores a person's answer to a question, once. The question must be open and before its deadline, its attempt
-- must still run, and its text must be the one that the person saw. Repeatable by answer id.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 question id · 5 choice · 6 the hash that was seen · 7 answer id
--         · 8 JSON { by, role?, requestId?, reason? }
-- Returns { state } · refused: NOT_FOUND · QUESTION_CHANGED { hash | next } · QUESTION_CLOSED { state, answer, why, by }
--         · UNKNOWN_CHOICE { choices }
-- Events  ask.answered | ask.denied; also ask.denied by the deadline, ask.cancelled
--!flags allow-oom
--!include base
--!include execution
--!include agent
local question = read_question(ARGV[4])
if not question then return refuse('NOT_FOUND') end
settle_question(question)
if question.request == ARGV[7] then return cjson.encode({ state = question.state }) end
if question.why == 'changed' then return refuse('QUESTION_CHANGED', { next = question.next }) end
if question.state ~= 'open' then
  return refuse('QUESTION_CLOSED', { state = question.state, answer = question.answer, why = question.why, by = question.by })
end
if question.hash ~= ARGV[6] then return refuse('QUESTION_CHANGED', { hash = question.hash }) end
local known = ARGV[5] == 'denied'
for _, choice in ipairs(question.choices) do known = known or choice == ARGV[5] end
if not known then return refuse('UNKNOWN_CHOICE', { choices = question.choices }) end

local said = cjson.decode(ARGV[8])
-- The audit log is in another slot. The process that answered, or the next sweep, enters the listed question there.
redis.call('SADD', key('asks:unaudited'), question.id)
close_question(question, ARGV[5] == 'denied' and 'denied' or 'answered',
  { answer = ARGV[5], why = 'person', by = said.by, role = said.role, requestId = said.requestId,
    reason = said.reason, request = ARGV[7] })
return cjson.encode({ state = question.state })

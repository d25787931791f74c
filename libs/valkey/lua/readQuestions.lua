-- readQuestions: questions of one execution in their present state. A passed deadline, or the attempt's end, closes a question
-- first.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · then question ids
-- Returns for each id its record (JSON text) and its words; '' and '' when there is none,
--           '!' and its text when it cannot be read
-- Events  ask.denied, ask.cancelled
--!flags allow-oom
--!include base
--!include execution
--!include agent
-- A question that is gone leaves the list of open ones. An unreadable one is looked at again later, so that it delays no other.
local LATER_MS = 60000
local found = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local legible, question = pcall(read_question, id)
  if legible and question then legible = pcall(settle_question, question) end
  if not legible then
    redis.call('ZADD', key('asks:due'), 'XX', int(NOW + LATER_MS), id)
    found[#found + 1], found[#found + 2] = '!', ''
  elseif not question then
    redis.call('ZREM', key('asks:due'), id)
    found[#found + 1], found[#found + 2] = '', ''
  else
    found[#found + 1] = cjson.encode(question)
    found[#found + 1] = redis.call('HGET', asks_key, 'w:' .. id) or ''
  end
end
return found

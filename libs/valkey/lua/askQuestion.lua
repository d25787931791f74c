-- askQuestion: stores a live agent's question to people, once. Repeatable: the same request of the same epoch again is the same
-- question.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch · 7 the number of the agent's request
--         · 8 JSON { hash, choices, timeoutMs, key?, whileWaiting?, text = for the event } · 9 its words (JSON text)
--         · 10 most of an attempt
--         · 11 most of an execution
-- Returns { id } · refused: NOT_FOUND · STALE_EPOCH · ENDED { state } · TOO_MANY_QUESTIONS { most, of }
-- Events  ask.created; ask.cancelled for an open one of the same key and other words
--!flags allow-oom
--!include base
--!include execution
--!include agent
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
local prefix = 'ask_' .. string.sub(agent.id, 5) .. '-'
local request = 'r:' .. prefix .. ARGV[6] .. '-' .. ARGV[7]
local known = redis.call('HGET', asks_key, request)
if known then return cjson.encode({ id = known }) end
local state = field('state')
if agent.state ~= 'running' and agent.state ~= 'spawning' then return refuse('ENDED', { state = agent.state }) end
if state ~= 'running' and state ~= 'paused' then return refuse('ENDED', { state = state }) end

local ask = cjson.decode(ARGV[8])
local replaced
if ask.key then
  -- Only the newest question of a key stays open.
  for i = agent.asks or 0, 1, -1 do
    local question = read_question(prefix .. int(i))
    if question and question.key == ask.key then
      settle_question(question)
      if question.hash == ask.hash then return cjson.encode({ id = question.id }) end
      if question.state == 'open' then replaced = question end
      break
    end
  end
end
-- Only a stored question takes a number: a request whose answer is an earlier question takes none.
local n = (agent.asks or 0) + 1
local id = prefix .. int(n)
if n > tonumber(ARGV[10]) then return refuse('TOO_MANY_QUESTIONS', { most = tonumber(ARGV[10]), of = 'attempt' }) end
if number_field('asks') >= tonumber(ARGV[11]) then
  return refuse('TOO_MANY_QUESTIONS', { most = tonumber(ARGV[11]), of = 'execution' })
end

if replaced then close_question(replaced, 'cancelled', { answer = 'denied', why = 'changed', by = 'belay', next = id }) end
local question = { id = id, agentId = agent.id, nodeId = agent.nodeId, attempt = agent.attempt, epoch = agent.epoch,
  state = INITIAL.question, hash = ask.hash, choices = ask.choices, key = ask.key, whileWaiting = ask.whileWaiting,
  createdAt = NOW, deadlineAt = NOW + ask.timeoutMs }
redis.call('HSET', asks_key, 'w:' .. id, ARGV[9], request, id)
write_question(question)
redis.call('ZADD', key('asks:due'), int(question.deadlineAt), id)
redis.call('HINCRBY', exe_key, 'asks', 1)
agent.asks = n
write_agent(agent)
bump()
tell_question(question, 'created', nil, 'open', nil,
  { question = ask.text, choices = ask.choices, hash = ask.hash, deadlineAt = question.deadlineAt })
return cjson.encode({ id = id })

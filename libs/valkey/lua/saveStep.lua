-- saveStep: begins or ends a step of a handler. No attempt of the node runs a step again that is done. Repeatable: an attempt
-- that begins a step twice has begun it once.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch · 7 name of the step
--         · 8 begin | done · 9 of begin: 1 when it may run again although an attempt was executing it as it ended
--         · 10 of done: the result (JSON text) or ''
-- Returns { state = begun | done | undecided, result? (JSON text), by? = the attempt that was executing it } ·
--         refused: NOT_FOUND · STALE_EPOCH · ENDED { state }
-- Not with allow-oom: the steps of one attempt may take 250 MiB. A full server still answers with a step that is done.
--!include base
--!include execution
--!include agent
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
if agent.state ~= 'running' and agent.state ~= 'spawning' then return refuse('ENDED', { state = agent.state }) end
local name = 's:' .. agent.nodeId .. '/' .. ARGV[7]
-- A done step has `d` and the result; a step that runs has `r` and its agent.
local stored = redis.call('HGET', said_key, name)
if stored and stored:sub(1, 1) == 'd' then return cjson.encode({ state = 'done', result = stored:sub(2) }) end
if ARGV[8] == 'done' then
  redis.call('HSET', said_key, name, 'd' .. ARGV[10])
  return cjson.encode({ state = 'done', result = ARGV[10] })
end
if stored and stored ~= 'r' .. agent.id and ARGV[9] ~= '1' then
  return cjson.encode({ state = 'undecided', by = stored:sub(2) })
end
redis.call('HSET', said_key, name, 'r' .. agent.id)
return cjson.encode({ state = 'begun' })

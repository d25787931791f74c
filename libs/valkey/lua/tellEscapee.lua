-- tellEscapee: reports an orphan on a worker that bears no sign of an agent. Repeatable by the process.
-- KEYS[1] set while the process counts as told
-- ARGV    1 control tag · 2 worker id · 3 settings · 4 JSON { pid, startTime, command, killed } · 5 ms that it counts as told
-- Returns nothing of use
-- Events  agent.escapee
--!flags allow-oom
--!include base
--!include control
if redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[5]) then
  emit_control({ type = 'agent.escapee', entity = 'agent', workerId = ARGV[2], data = cjson.decode(ARGV[4]) })
end
return 'OK'

-- registerWorker: registers a worker, in state idle. Repeatable.
-- KEYS[1] the worker's record
-- ARGV    1 control tag · 2 worker id · 3 settings · 4 record fields as a JSON object of strings · 5 lease in ms
-- Returns { state, now, ordersHead } · refused: nothing
-- Events  worker.idle
--!flags allow-oom
--!include base
--!include control
--!include worker
local state = redis.call('HGET', worker_key, 'state')
if not state then
  for name, value in pairs(cjson.decode(ARGV[4])) do redis.call('HSET', worker_key, name, value) end
  redis.call('HSET', worker_key, 'id', WORKER, 'state', 'idle', 'version', 1, 'createdAt', int(NOW))
  redis.call('ZADD', key('idx:wrk:idle'), int(NOW), WORKER)
  emit_control({ type = 'worker.idle', entity = 'worker', workerId = WORKER, to = 'idle' })
  state = 'idle'
end
if state ~= 'stopped' then renew_lease(ARGV[5]) end
local read, head = pcall(redis.call, 'XREVRANGE', key('orders'), '+', '-', 'COUNT', 1)
return cjson.encode({ state = state, now = NOW, ordersHead = read and head[1] and head[1][1] or '0-0' })

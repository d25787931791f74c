-- expireWorker: a worker whose lease has run out is stopped for good; from here its agents may be failed as worker_lost.
-- The worker's own heartbeat is refused from now on, so it cannot come back. Repeatable.
-- KEYS[1] the worker's record
-- ARGV    1 control tag · 2 worker id · 3 settings
-- Returns { expired } · refused: NOT_FOUND
-- Events  worker.stopped with reason worker_lost
--!flags allow-oom
--!include base
--!include control
--!include worker
local lease = redis.call('ZSCORE', key('leases'), WORKER)
if not lease or tonumber(lease) > NOW then return cjson.encode({ expired = false }) end
redis.call('ZREM', key('leases'), WORKER)
local state = redis.call('HGET', worker_key, 'state')
if not state or not move_worker(state, 'stopped', 'worker_lost') then redis.call('ZADD', key('lost'), int(NOW), WORKER) end
return cjson.encode({ expired = true })

-- expireWorker: stops a worker for good whose lease was not renewed for its whole length; from here its agents may be failed as
-- worker_lost. The worker's own heartbeat is refused from now on, so it cannot come back. Repeatable.
-- KEYS[1] the worker's record
-- ARGV    1 control tag · 2 worker id · 3 settings
--         · 4 the lease as the caller saw it for its whole length, by a monotonic clock
--         of its own: this server's clock may step
-- Returns { expired = false where it was renewed meanwhile } · refused: NOT_FOUND
-- Events  worker.stopped with reason worker_lost
--!flags allow-oom
--!include base
--!include control
--!include worker
local lease = redis.call('ZSCORE', key('leases'), WORKER)
if not lease or tonumber(lease) ~= tonumber(ARGV[4]) then return cjson.encode({ expired = false }) end
end_lease()
local state = redis.call('HGET', worker_key, 'state')
if not state or not move_worker(state, 'stopped', 'worker_lost') then redis.call('ZADD', key('lost'), int(NOW), WORKER) end
return cjson.encode({ expired = true })

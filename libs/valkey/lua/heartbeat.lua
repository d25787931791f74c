-- heartbeat: renews a worker's lease and brings the head of the orders log and the version of the latches. Repeatable.
-- KEYS[1] the worker's record
-- ARGV    1 control tag · 2 worker id · 3 settings · 4 lease in ms · 5 agents it owns now
-- Returns { state, now, ordersHead, latchesVersion, targets = how many targets of orders this worker has yet to deal with } ·
--         refused: NOT_FOUND · LEASE_LOST (the lease ran out and was taken: never renewed again)
--!flags allow-oom
--!include base
--!include control
--!include worker
local state = redis.call('HGET', worker_key, 'state')
if not state then return refuse('NOT_FOUND') end
if state == 'stopped' then return refuse('LEASE_LOST', { state = state }) end
renew_lease(ARGV[4])
redis.call('HSET', worker_key, 'lastHeartbeatAt', int(NOW), 'running', ARGV[5])
local targets = redis.call('SCARD', worker_key .. ':targets')
if targets > 0 then redis.call('PEXPIRE', worker_key .. ':targets', int(CONF.retentionMs)) end
-- A corrupt log of orders must not cost a worker its lease. The next order sets the log aside.
local read, head = pcall(redis.call, 'XREVRANGE', key('orders'), '+', '-', 'COUNT', 1)
local legible, version = pcall(redis.call, 'GET', key('latches:version'))
return cjson.encode({ state = state, now = NOW, ordersHead = read and head[1] and head[1][1] or '0-0',
  latchesVersion = legible and tonumber(version or '0') or 0, targets = targets })

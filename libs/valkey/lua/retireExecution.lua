-- retireExecution: removes an ended execution before its retention is over: there are too many, or they take too much memory.
-- An execution with an attempt that nobody has seen dead stays. The caller removes the logs of the agents first. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id
-- Returns 1 when it is gone · 0 when it has not ended, or is not proved
--!flags allow-oom
--!include base
--!include parts
--!include unlist
local id, exe_key = ARGV[2], KEYS[1]
-- An ended execution stays in this index until it is retried or removed.
if not redis.call('ZSCORE', key('expiry'), id) or redis.call('SCARD', exe_key .. ':unproved') > 0 then return 0 end
local idem = redis.call('HGET', exe_key, 'idempotencyKey')
if idem and redis.call('GET', key('idem:' .. idem)) == id then redis.call('UNLINK', key('idem:' .. idem)) end
for _, suffix in ipairs(PARTS) do redis.call('UNLINK', exe_key .. suffix) end
unlist_execution(id)
return 1

-- freeParked: tells whether a parked attempt was let go on while its job was still in hand. The hand-over of that moment was
-- taken for the job that existed. If so, the attempt's next look is due now. Repeatable.
-- KEYS[1] the outbox
-- ARGV    1 tag · 2 execution id · 3 agent id
-- Returns 1 when it has to be handed over again · 0 when it is still parked, or has left the outbox
--!flags allow-oom
--!include base
local id = ARGV[3]
if not redis.call('ZSCORE', key('outbox:at'), id) then return 0 end
if redis.call('SISMEMBER', key('parked'), id) == 1 then return 0 end
if redis.call('SISMEMBER', key('exe:' .. ARGV[2] .. ':parked'), id) == 1 then return 0 end
redis.call('ZADD', key('outbox:at'), 'XX', 0, id)
return 1

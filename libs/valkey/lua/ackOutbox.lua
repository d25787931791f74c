-- ackOutbox: these attempts are in their BullMQ queue. They stay listed until claimed, so that a job BullMQ lost is
-- seen: their next look is due later. Repeatable; an attempt that has left the outbox is left alone.
-- KEYS[1] the outbox
-- ARGV    1 tag · 2 ms until the next look · 3… agent ids
-- Returns nothing of use
--!flags allow-oom
--!include base
for i = 3, #ARGV do redis.call('ZADD', key('outbox:at'), 'XX', int(NOW + tonumber(ARGV[2])), ARGV[i]) end
return 'OK'

-- ackOutbox: these attempts are in their BullMQ queue. They stay listed until claimed, so that a job BullMQ lost is
-- seen: their next look is due later. Repeatable; an attempt that has left the outbox is left alone. So is one that was let
-- go on since (score 0): its job may have been used up before; only a sweep, which hands those over, notes that it did.
-- KEYS[1] the outbox
-- ARGV    1 tag · 2 ms until the next look · 3 by a sweep: 1 or 0 · 4… agent ids
-- Returns nothing of use
--!flags allow-oom
--!include base
for i = 4, #ARGV do
  if ARGV[3] == '1' or tonumber(redis.call('ZSCORE', key('outbox:at'), ARGV[i]) or '0') > 0 then
    redis.call('ZADD', key('outbox:at'), 'XX', int(NOW + tonumber(ARGV[2])), ARGV[i])
  end
end
return 'OK'

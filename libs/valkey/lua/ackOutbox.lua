-- ackOutbox: notes that these attempts are in their BullMQ queue. They stay listed until a worker claims them, and their next
-- look is postponed, so that a sweep finds a job that BullMQ lost. Repeatable. Two kinds of attempts are left alone: those that
-- have left the outbox, and those that were let go on since (score 0). The job of the latter may have been used up before, so
-- only the sweep that hands them over again notes their hand-over.
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

-- banWorker: from here on the shard grants this worker no claim. Removes bans that have expired. Repeatable.
-- KEYS[1] the shard's banned workers
-- ARGV    1 tag · 2 worker id · 3 ms that a ban is kept
-- Returns nothing of use
--!flags allow-oom
--!include base
redis.call('ZADD', key('gone'), int(NOW), ARGV[2])
redis.call('ZREMRANGEBYSCORE', key('gone'), '-inf', int(NOW - tonumber(ARGV[3])))
return 'OK'

-- countPools: counts the attempts of each pool in this shard. Reads only.
-- KEYS[1] the names of the pools that have something
-- ARGV    1 tag · 2 most pools
-- Returns a JSON array of { pool, waiting = attempts that may be claimed now, delayed = attempts whose wait is not over,
--           active, oldestMs = how long the oldest of `waiting` may have been claimed }; {} when there are none
--!include base
local pools = redis.call('SMEMBERS', key('pools'))
table.sort(pools)
local found = {}
for i = 1, math.min(#pools, tonumber(ARGV[2])) do
  local pool = pools[i]
  local wait = key('wait:' .. pool)
  local oldest = redis.call('ZRANGEBYSCORE', wait, '-inf', int(NOW), 'WITHSCORES', 'LIMIT', 0, 1)[2]
  found[i] = {
    pool = pool, waiting = redis.call('ZCOUNT', wait, '-inf', int(NOW)), delayed = redis.call('ZCOUNT', wait, '(' .. int(NOW), '+inf'),
    active = redis.call('SCARD', key('live:' .. pool)), oldestMs = oldest and NOW - tonumber(oldest),
  }
end
return cjson.encode(found)

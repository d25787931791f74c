-- acquireShardLock: a lock for one background job in a slot's keys, so that one process at a time does the job. The holder
-- renews the lock. When it has expired, another process gets it, with the next fencing number. Work under the lock must be
-- idempotent all the same: a suspended holder does not know that it lost the lock. Repeatable.
-- KEYS[1] the lock
-- ARGV    1 tag · 2 job · 3 owner · 4 until it expires, milliseconds; 0 gives it back
-- Returns { held, fence }
--!flags allow-oom
--!include base
local lock = key('turn:' .. ARGV[2])
local owner, hold = ARGV[3], tonumber(ARGV[4])
local held = redis.call('HMGET', lock, 'owner', 'until', 'fence')
local mine = held[1] == owner
local free = mine or not held[1] or tonumber(held[2]) <= NOW
if not free then return cjson.encode({ held = false, fence = tonumber(held[3]) }) end
if hold == 0 then
  if mine then redis.call('HSET', lock, 'until', 0) end
  return cjson.encode({ held = false, fence = tonumber(held[3] or '0') })
end
-- A lock that ran out gets a new fencing number for the same owner too: another process may have had it in between.
if not (mine and tonumber(held[2]) > NOW) then held[3] = redis.call('HINCRBY', lock, 'fence', 1) end
redis.call('HSET', lock, 'owner', owner, 'until', int(NOW + hold))
return cjson.encode({ held = true, fence = tonumber(held[3]) })

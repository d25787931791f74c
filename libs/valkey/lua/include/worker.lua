-- worker: moving one worker's record. Needs base and control. ARGV[2] is the worker id.
local WORKER = ARGV[2]
local worker_key = key('wrk:' .. WORKER)

-- When the lease runs out by this server's clock. People read it; a janitor measures the length by a clock of its own.
local function renew_lease(ms)
  redis.call('ZADD', key('leases'), int(NOW + tonumber(ms)), WORKER)
  redis.call('HSET', key('leases:ms'), WORKER, ms)
end

local function end_lease()
  redis.call('ZREM', key('leases'), WORKER)
  redis.call('HDEL', key('leases:ms'), WORKER)
end

local function move_worker(from, to, reason)
  if not allowed('worker', from, to) then return false end
  redis.call('HSET', worker_key, 'state', to)
  redis.call('HINCRBY', worker_key, 'version', 1)
  if to == 'running' then redis.call('HSETNX', worker_key, 'startedAt', int(NOW)) end
  if to == 'stopped' then
    redis.call('HSETNX', worker_key, 'stoppedAt', int(NOW))
    if reason then redis.call('HSETNX', worker_key, 'reason', reason) end
    end_lease()
    -- Also after a drain, since only this worker can have ends of agents that it could not store. A worker that owns nothing is
    -- not listed.
    redis.call('ZADD', key('lost'), int(NOW), WORKER)
    redis.call('PEXPIRE', worker_key, int(CONF.retentionMs))
  end
  redis.call('ZREM', key('idx:wrk:' .. from), WORKER)
  redis.call('ZADD', key('idx:wrk:' .. to), int(NOW), WORKER)
  -- Ended workers are listed for a while, not for ever.
  if to == 'stopped' then redis.call('ZREMRANGEBYRANK', key('idx:wrk:stopped'), 0, -1001) end
  emit_control({ type = 'worker.' .. to, entity = 'worker', workerId = WORKER, from = from, to = to, reason = reason })
  return true
end

-- engage: the list of engaged latches under the control tag. Needs base, control and audit.
-- Every change gets a higher version; shards take a copy only when its version is higher than theirs. The clock is in
-- it, so a server that lost its last second mostly hands out higher ones than the shards have seen. Where its clock is behind, a shard
-- says with the copy that it is ahead, and overtakeLatches makes it higher than that, `above`.
local function latches_version() return tonumber(redis.call('GET', key('latches:version')) or '0') end
local function bump_latches(above)
  return keeping({ 'latches:version' }, function()
    local version = math.max(latches_version() + 1, (above or 0) + 1, NOW)
    redis.call('SET', key('latches:version'), int(version))
    return version
  end)
end

-- { version, items } as JSON text. The latches' own texts are joined, not encoded again.
local function latch_set()
  local texts = redis.call('HVALS', key('latches'))
  return '{"version":' .. (redis.call('GET', key('latches:version')) or '0') .. ',"items":[' .. table.concat(texts, ',') .. ']}'
end

-- A pool is paused once.
local function is_paused_by_other(latch)
  if latch.kind ~= 'pause' then return false end
  for _, text in ipairs(redis.call('HVALS', key('latches'))) do
    local other = cjson.decode(text)
    if other.kind == 'pause' and other.scope.pool == latch.scope.pool then return true end
  end
  return false
end

-- It was never engaged here, or a failover lost it. One that was released is known as that.
local function is_unknown(latch)
  return redis.call('HEXISTS', key('latches'), latch.id) == 0 and redis.call('EXISTS', key('lat:' .. latch.id)) == 0
end

-- `latch` without engagedAt, or with it when a failover lost it. False when there are too many.
local function engage(latch, most)
  if redis.call('HLEN', key('latches')) >= most then return false end
  latch.engagedAt = latch.engagedAt or NOW
  redis.call('HSET', key('latches'), latch.id, cjson.encode(latch))
  bump_latches()
  emit_control({ type = 'latch.engaged', entity = 'latch', to = 'engaged', data = { latchId = latch.id, kind = latch.kind, scope = latch.scope, by = latch.by, orderId = latch.orderId } })
  return true
end

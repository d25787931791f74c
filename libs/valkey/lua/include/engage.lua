-- engage: the list of engaged latches in the control slot. Needs base, control and audit. Every change gets a higher version,
-- and a shard takes a copy only if its version is higher than the shard's. The version follows the clock, so a server that lost
-- its last second mostly gives higher versions than the shards have seen. If its clock is behind, a shard answers the copy with
-- its own version, and overtakeLatches raises the list's version above it (`above`).
local function latches_version() return tonumber(redis.call('GET', key('latches:version')) or '0') end
local function bump_latches(above)
  return keeping({ 'latches:version' }, function()
    local version = math.max(latches_version() + 1, (above or 0) + 1, NOW)
    redis.call('SET', key('latches:version'), int(version))
    return version
  end)
end

-- { version, items } as JSON text. The stored texts of the latches are joined, not encoded again.
local function latch_set()
  local texts = redis.call('HVALS', key('latches'))
  return '{"version":' .. (redis.call('GET', key('latches:version')) or '0') .. ',"items":[' .. table.concat(texts, ',') .. ']}'
end

-- A pool has at most one pause.
local function is_paused_by_other(latch)
  if latch.kind ~= 'pause' then return false end
  for _, text in ipairs(redis.call('HVALS', key('latches'))) do
    local other = cjson.decode(text)
    if other.kind == 'pause' and other.scope.pool == latch.scope.pool then return true end
  end
  return false
end

-- The latch was never engaged here, or a failover lost it. A released latch has a record.
local function is_unknown(latch)
  return redis.call('HEXISTS', key('latches'), latch.id) == 0 and redis.call('EXISTS', key('lat:' .. latch.id)) == 0
end

-- Engages `latch`. It has engagedAt only if a failover lost it. False when there are too many.
local function engage(latch, most)
  if redis.call('HLEN', key('latches')) >= most then return false end
  -- The copy of a latch that a failover lost may have an approval that was used meanwhile. So the first person approves again.
  latch.approval = nil
  latch.engagedAt = latch.engagedAt or NOW
  redis.call('HSET', key('latches'), latch.id, cjson.encode(latch))
  bump_latches()
  emit_control({ type = 'latch.engaged', entity = 'latch', to = 'engaged', data = { latchId = latch.id, kind = latch.kind, scope = latch.scope, by = latch.by, orderId = latch.orderId } })
  return true
end

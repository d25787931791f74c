-- releaseLatch: releases a latch, with a reason. Repeatable: one released before answers who did it, when and why.
-- KEYS[1] the list of engaged latches
-- ARGV    1 control tag · 2 latch id · 3 settings · 4 by · 5 the reason
-- Returns { latch = JSON text, latches = LatchSet JSON text, already } · refused: NOT_FOUND
-- Events  latch.released
--!include base
--!include control
--!include audit
--!include engage
local released_key = key('lat:' .. ARGV[2])
local text = redis.call('HGET', key('latches'), ARGV[2])
local already = not text
if text then
  local latch = cjson.decode(text)
  latch.releasedAt = NOW
  latch.releasedBy = ARGV[4]
  latch.releaseNote = ARGV[5]
  redis.call('HDEL', key('latches'), ARGV[2])
  bump_latches()
  -- Long enough that nobody with an old list takes it for one that a failover lost.
  redis.call('SET', released_key, cjson.encode(latch), 'PX', int(math.max(CONF.retentionMs, 600000)))
  audit({ act = 'latch.released', latchId = latch.id, kind = latch.kind, scope = latch.scope, by = ARGV[4], note = ARGV[5] })
  emit_control({ type = 'latch.released', entity = 'latch', to = 'released', data = { latchId = latch.id, kind = latch.kind, by = ARGV[4] } })
end
local released = redis.call('GET', released_key)
if not released then return refuse('NOT_FOUND') end
return cjson.encode({ latch = released, latches = latch_set(), already = already })

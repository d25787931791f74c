-- releaseLatch: releases a latch, with a reason. For a freeze, the same script orders the thaw. Repeatable: for a latch that
-- was released before, it answers who released it, when and why, and with which thaw.
-- KEYS[1] the list of engaged latches
-- ARGV    1 control tag · 2 latch id · 3 settings · 4 by · 5 the reason · 6 id of the thaw order, if it is a freeze
--         · 7 JSON { role?, requestId? } of who releases it
-- Returns { latch = JSON text, latches = LatchSet JSON text, already, thaw = id of the order that thaws }
--         · refused: NOT_FOUND
-- Events  latch.released, order.open
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
--!include engage
--!include place
local released_key = key('lat:' .. ARGV[2])
local text = redis.call('HGET', key('latches'), ARGV[2])
local already = not text
if text then
  local latch, who = cjson.decode(text), cjson.decode(ARGV[7] or '{}')
  latch.releasedAt = NOW
  latch.releasedBy = ARGV[4]
  latch.releaseNote = ARGV[5]
  redis.call('HDEL', key('latches'), ARGV[2])
  bump_latches()
  if latch.kind == 'freeze' then
    latch.thawOrderId = ARGV[6]
    place({ id = ARGV[6], kind = 'thaw', scope = latch.scope, mode = 'graceful', reason = 'killswitch', by = ARGV[4],
      role = who.role, requestId = who.requestId, note = ARGV[5], latchId = latch.id }, '', true)
  end
  -- Kept so long that no process with an old list takes the latch for one that a failover lost.
  redis.call('SET', released_key, cjson.encode(latch), 'PX', int(math.max(CONF.retentionMs, 600000)))
  audit({ act = 'latch.released', latchId = latch.id, kind = latch.kind, scope = latch.scope, by = ARGV[4], role = who.role,
    requestId = who.requestId, note = ARGV[5] })
  emit_control({ type = 'latch.released', entity = 'latch', to = 'released', data = { latchId = latch.id, kind = latch.kind, by = ARGV[4] } })
end
local released = redis.call('GET', released_key)
if not released then return refuse('NOT_FOUND') end
return cjson.encode({ latch = released, latches = latch_set(), already = already,
  thaw = cjson.decode(released).thawOrderId })

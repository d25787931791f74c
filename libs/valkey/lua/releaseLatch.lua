-- releaseLatch: releases a latch, with a reason. For a freeze, the same script orders the thaw. Repeatable: for a latch that
-- was released before, it answers who released it, when and why, and with which thaw. If the latch needs two people, the first
-- call stores an approval in the latch's record, and a call by another name releases it before the approval expires. The
-- approval belongs to that record, so it counts for no other latch of the same scope. A repeat by the same name changes nothing.
-- KEYS[1] the list of engaged latches
-- ARGV    1 control tag · 2 latch id · 3 settings · 4 by · 5 the reason · 6 id of the thaw order, if it is a freeze
--         · 7 JSON { role?, requestId? } of who releases it · 8 how long an approval counts, milliseconds
-- Returns { latch = JSON text, latches = LatchSet JSON text, already, thaw = id of the order that thaws }
--         · { latch = JSON text, pending = true, already = this name had approved before }: another person is needed
--         · refused: NOT_FOUND
-- Events  latch.approved, latch.released, order.open
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
  local approval = latch.approval
  if approval and approval.expiresAt <= NOW then approval = nil end
  if (latch.releaseNeeds or 1) > 1 and not (approval and approval.by ~= ARGV[4]) then
    local before = approval ~= nil
    if not before then
      latch.approval = { by = ARGV[4], role = who.role, requestId = who.requestId, note = ARGV[5], at = NOW,
        expiresAt = NOW + tonumber(ARGV[8]) }
      text = cjson.encode(latch)
      -- No new version: for the claims the latch is as it was.
      redis.call('HSET', key('latches'), ARGV[2], text)
      audit({ act = 'latch.approved', latchId = latch.id, kind = latch.kind, scope = latch.scope, by = ARGV[4], role = who.role,
        requestId = who.requestId, note = ARGV[5] })
      emit_control({ type = 'latch.approved', entity = 'latch', from = 'engaged', to = 'engaged',
        data = { latchId = latch.id, kind = latch.kind, by = ARGV[4], expiresAt = latch.approval.expiresAt } })
    end
    return cjson.encode({ latch = text, pending = true, already = before })
  end
  -- One that did not count is no part of the release.
  latch.approval = approval
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
    requestId = who.requestId, note = ARGV[5], approvedBy = approval and approval.by })
  emit_control({ type = 'latch.released', entity = 'latch', to = 'released', data = { latchId = latch.id, kind = latch.kind, by = ARGV[4] } })
end
local released = redis.call('GET', released_key)
if not released then return refuse('NOT_FOUND') end
return cjson.encode({ latch = released, latches = latch_set(), already = already,
  thaw = cjson.decode(released).thawOrderId })

-- engageLatch: engages a latch without an order. Repeatable by latch id. A pool has at most one pause: a second one engages
-- nothing.
-- KEYS[1] the list of engaged latches
-- ARGV    1 control tag · 2 latch id · 3 settings · 4 latch JSON without engagedAt · 5 most latches
-- Returns { latches = LatchSet JSON text } · refused: TOO_MANY_LATCHES
-- Events  latch.engaged
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include engage
local latch = cjson.decode(ARGV[4])
if is_unknown(latch) and not is_paused_by_other(latch) then
  if not engage(latch, tonumber(ARGV[5])) then return refuse('TOO_MANY_LATCHES', { most = tonumber(ARGV[5]) }) end
  audit({ act = 'latch.engaged', latchId = ARGV[2], kind = latch.kind, scope = latch.scope, by = latch.by, role = latch.role,
    requestId = latch.requestId, note = latch.note })
end
return cjson.encode({ latches = latch_set() })

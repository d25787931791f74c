-- overtakeLatches: makes the list of engaged latches newer than a shard's copy that is ahead of it. That happens when a
-- failover of the control slot lost the list's last changes, and the new server's clock is behind. The list wins, since
-- otherwise no later latch would be in force in that shard. A latch that only the shard has is engaged again, unless it was
-- released. Repeatable; a list that is newer already is left as it is.
-- KEYS[1] the list of engaged latches
-- ARGV    1 control tag · 2 the version that it must have by now · 3 settings
--         · 4 JSON array of the latches of the copies that are ahead
-- Returns { latches = LatchSet JSON text }
-- Events  latch.engaged
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include engage
local least = tonumber(ARGV[2])
-- Otherwise the copy comes from a later change.
if (keeping({ 'latches:version' }, latches_version) or 0) < least then
  for _, latch in ipairs(cjson.decode(ARGV[4])) do
    if is_unknown(latch) and not is_paused_by_other(latch) then
      -- The latch is in force already, so the bound on their number does not end it.
      engage(latch, math.huge)
      audit({ act = 'latch.engaged', latchId = latch.id, kind = latch.kind, scope = latch.scope, by = latch.by, role = latch.role,
        requestId = latch.requestId, note = latch.note, again = true })
    end
  end
  bump_latches(least)
end
return cjson.encode({ latches = latch_set() })

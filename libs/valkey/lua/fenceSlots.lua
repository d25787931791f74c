-- fenceSlots: tells which attempts that have a slot do not run in this shard. From here on claims with such a grant, or an
-- older one, are refused, so that another attempt can get the slot. Repeatable.
-- KEYS[1] the shard's outbox
-- ARGV    1 tag · 2 how long the fence is kept, milliseconds · 3… `id grant`
-- Returns { ended, unstarted = those that are not running, as they were given }
--!flags allow-oom
--!include base
local ended, unstarted = {}, {}
for i = 3, #ARGV do
  local id, grant = string.match(ARGV[i], '^(%S+) (%d+)$')
  local execution = 'exe_' .. string.match(id, '^agt_(.-)%-%d+%-%d+$')
  if redis.call('SISMEMBER', key('exe:' .. execution .. ':live'), id) == 0 then
    -- A late call must not lower the fence: a newer grant would pass again.
    if tonumber(grant) >= tonumber(redis.call('GET', key('void:' .. id)) or '0') then
      redis.call('SET', key('void:' .. id), grant, 'PX', ARGV[2])
    end
    local gone = redis.call('HEXISTS', key('exe:' .. execution .. ':agents'), id) == 1 and ended or unstarted
    gone[#gone + 1] = ARGV[i]
  end
end
return cjson.encode({ ended = ended, unstarted = unstarted })

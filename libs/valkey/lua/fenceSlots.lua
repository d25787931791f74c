-- fenceSlots: which attempts that hold a slot are not running here. From here on a claim with that grant, or an older one, is refused,
-- so that the slot can be given to another. Repeatable.
-- KEYS[1] the shard's outbox
-- ARGV    1 tag · 2 how long the fence is kept, milliseconds · 3… `id grant`
-- Returns a JSON array of those that are not running, as they were given; {} when there are none
--!flags allow-oom
--!include base
local gone = {}
for i = 3, #ARGV do
  local id, grant = string.match(ARGV[i], '^(%S+) (%d+)$')
  local execution = 'exe_' .. string.match(id, '^agt_(.-)%-%d+%-%d+$')
  if redis.call('SISMEMBER', key('exe:' .. execution .. ':live'), id) == 0 then
    redis.call('SET', key('void:' .. id), grant, 'PX', ARGV[2])
    gone[#gone + 1] = ARGV[i]
  end
end
return cjson.encode(gone)

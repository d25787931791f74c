-- setLimits: replaces all of the fleet's limits. The caller copies them to every shard, then counts the running attempts
-- (holdSlots). Until then no attempt gets a slot under them. Repeatable by the change's id.
-- KEYS[1] the limits
-- ARGV    1 control tag · 2 the change's id · 3 settings · 4 JSON array of rules · 5 by · 6 note or ''
--         · 7 JSON { role?, requestId? } of who sets them · 8 the highest version that a shard has
-- Returns { limits = { version, items } as JSON text }
-- Events  limits.set
--!flags allow-oom
--!include base
--!include control
--!include audit
if redis.call('SET', key('act:' .. ARGV[2]), 1, 'NX', 'PX', int(math.max(CONF.retentionMs, 600000))) then
  -- Above the version of a change that a failover lost here and a shard has: this change came later, and replaces it.
  local version = math.max(tonumber(redis.call('HGET', key('limits'), 'version') or '0') + 1, tonumber(ARGV[8]) + 1, NOW)
  redis.call('HSET', key('limits'), 'version', int(version), 'set', ARGV[4], 'by', ARGV[5], 'at', int(NOW), 'counting', int(version))
  local who = cjson.decode(ARGV[7] or '{}')
  audit({ act = 'limits.set', by = ARGV[5], role = who.role, requestId = who.requestId, note = ARGV[6] ~= '' and ARGV[6] or nil, limits = ARGV[4] })
  emit_control({ type = 'limits.set', entity = 'limits', to = 'set', data = { version = version, by = ARGV[5] } })
end
local held = redis.call('HMGET', key('limits'), 'version', 'set')
return cjson.encode({ limits = '{"version":' .. held[1] .. ',"items":' .. held[2] .. '}' })

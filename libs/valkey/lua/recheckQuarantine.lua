-- recheckQuarantine: removes entries whose record is gone or was changed since it was listed. The next reader of such a record
-- judges it anew. Looks at some entries, drawn at random. Repeatable.
-- KEYS[1] the slot's quarantine
-- ARGV    1 tag · 2 most entries to look at
-- Returns { released = number of entries taken out, left }
--!flags allow-oom
--!include base
--!include quarantine
local quarantine = key('quarantine')
local released = 0
local drawn = redis.call('HRANDFIELD', quarantine, tonumber(ARGV[2]))
for _, name in ipairs(drawn) do
  local entry = cjson.decode(redis.call('HGET', quarantine, name))
  if fingerprint(entry.key, entry.field or '') ~= entry.print then
    redis.call('HDEL', quarantine, name)
    released = released + 1
  end
end
return cjson.encode({ released = released, left = redis.call('HLEN', quarantine) })

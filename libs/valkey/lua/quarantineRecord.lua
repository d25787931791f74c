-- quarantineRecord: lists an unreadable record where an operator finds it. The record itself stays where it is.
-- Repeatable: an entry that exists stays as it is, except that `stops` is added.
-- KEYS[1] the slot's quarantine
-- ARGV    1 tag · 2 the record's key · 3 its field or '' · 4 entry JSON { key, field?, executionId?, problem, cut, stops? }
--         · 5 most entries of a slot · 6 channel of events
-- Returns { new = true when no process had reported it yet, full = true when there is no more room }
-- Events  record.quarantined, published only
--!flags allow-oom
--!include base
--!include quarantine
local quarantine = key('quarantine')
local name = ARGV[2] .. '\t' .. ARGV[3]
local entry = cjson.decode(ARGV[4])
local held = redis.call('HGET', quarantine, name)
if held then
  local before = cjson.decode(held)
  if entry.stops and not before.stops then
    before.stops = true
    redis.call('HSET', quarantine, name, cjson.encode(before))
  end
  return cjson.encode({ new = false })
end
if redis.call('HLEN', quarantine) >= tonumber(ARGV[5]) then return cjson.encode({ new = false, full = true }) end
entry.firstSeenAt = NOW
entry.print = fingerprint(ARGV[2], ARGV[3])
redis.call('HSET', quarantine, name, cjson.encode(entry))
redis.call('PUBLISH', ARGV[6], cjson.encode({ type = 'record.quarantined', entity = 'record', executionId = entry.executionId, at = NOW, data = { key = entry.key, field = entry.field, problem = entry.problem } }))
return cjson.encode({ new = true })

-- quarantine: tells whether a record has changed, without parsing its content. Needs base.
local PRINTED = 65536

local function value_print(text)
  if not text then return 'nothing' end
  return #text .. ':' .. redis.sha1hex(#text > PRINTED and string.sub(text, 1, PRINTED) or text)
end

-- The fingerprint of one field, or of a whole key: for a key the type alone, since the content may be anything.
local function fingerprint(name, field_name)
  local kind = redis.call('TYPE', name).ok
  if field_name == '' or kind ~= 'hash' then return kind end
  return kind .. ':' .. value_print(redis.call('HGET', name, field_name))
end

-- createToken: stores a named token by the hash of its secret. Repeatable by that hash. A name is free again once its token was
-- revoked or has expired. Such tokens are removed after the retention.
-- KEYS[1] the tokens
-- ARGV    1 control tag · 2 SHA-256 of the secret · 3 settings · 4 token JSON { name, role, selector?, rate? }
--         · 5 milliseconds until it
--         expires, or '' · 6 JSON of who made it { by, role?, requestId? } · 7 most tokens
-- Returns { token = JSON text } · refused: TOKEN_EXISTS · TOO_MANY_TOKENS
--!include base
--!include control
--!include audit
--!include token
local tokens, names = key('tokens'), key('tokens:names')
local held = redis.call('HGET', tokens, ARGV[2])
if held then return cjson.encode({ token = held }) end
local token, who = cjson.decode(ARGV[4]), cjson.decode(ARGV[6])
local before = redis.call('HGET', names, token.name)
local old = read_token(before)
if old and not over(old) then return refuse('TOKEN_EXISTS') end

local function forget(hash, name)
  redis.call('HDEL', tokens, hash)
  if redis.call('HGET', names, name) == hash then redis.call('HDEL', names, name) end
  redis.call('HDEL', key('tokens:used'), name)
end
if before then forget(before, token.name) end
for _, hash in ipairs(redis.call('HKEYS', tokens)) do
  local other = read_token(hash)
  local since = other and (other.revokedAt or (over(other) and other.expiresAt))
  if since and NOW - since > CONF.retentionMs then forget(hash, other.name) end
end
if redis.call('HLEN', tokens) >= tonumber(ARGV[7]) then return refuse('TOO_MANY_TOKENS') end

token.createdAt, token.createdBy = NOW, who.by
if ARGV[5] ~= '' then token.expiresAt = NOW + tonumber(ARGV[5]) end
local text = cjson.encode(token)
redis.call('HSET', tokens, ARGV[2], text)
redis.call('HSET', names, token.name, ARGV[2])
audit({ act = 'token.created', by = who.by, role = who.role, requestId = who.requestId,
  token = { name = token.name, role = token.role, selector = token.selector, expiresAt = token.expiresAt,
    rate = token.rate } })
return cjson.encode({ token = text })

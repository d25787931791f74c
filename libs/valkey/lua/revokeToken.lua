-- revokeToken: a named token grants nothing from here on. Repeatable: the first revocation is kept. A process that knows of a
-- revocation which a failover may have lost repeats it with the token's hash, so that it reaches no younger token of the same
-- name.
-- KEYS[1] the tokens
-- ARGV    1 control tag · 2 name · 3 settings · 4 JSON of who revokes it { by, role?, requestId? }
--         · 5 SHA-256 of its secret, or ''
-- Returns { token = JSON text, hash, already } · refused: NOT_FOUND
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include token
local hash = redis.call('HGET', key('tokens:names'), ARGV[2])
if not hash or (ARGV[5] ~= '' and ARGV[5] ~= hash) then return refuse('NOT_FOUND') end
local token, text = read_token(hash)
if not token then return refuse('NOT_FOUND') end
local already = token.revokedAt ~= nil
if not already then
  local who = cjson.decode(ARGV[4])
  token.revokedAt, token.revokedBy = NOW, who.by
  text = cjson.encode(token)
  redis.call('HSET', key('tokens'), hash, text)
  audit({ act = 'token.revoked', by = who.by, role = who.role, requestId = who.requestId, token = { name = token.name, role = token.role } })
end
return cjson.encode({ token = text, hash = hash, already = already })

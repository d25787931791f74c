-- useToken: finds the token of a secret, and whether it is valid now. Every request with a named token runs it, so a revocation
-- is in force from the next request on, at every orchestrator. Repeatable.
-- KEYS[1] the tokens
-- ARGV    1 control tag · 2 SHA-256 of the secret · 3 milliseconds between two entries of the last use
-- Returns { token = JSON text } · refused: UNKNOWN · EXPIRED { name } · REVOKED { name }
--!flags allow-oom
--!include base
--!include token
local token, text = read_token(ARGV[2])
if not token then return refuse('UNKNOWN') end
local why = over(token)
if why then return refuse(why, { name = token.name }) end
local used = redis.pcall('HGET', key('tokens:used'), token.name)
if type(used) ~= 'string' or NOW - (tonumber(used) or 0) >= tonumber(ARGV[3]) then
  -- The last uses are information for people: a corrupt list refuses no request.
  redis.pcall('HSET', key('tokens:used'), token.name, int(NOW))
end
return cjson.encode({ token = text })

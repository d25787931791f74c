-- token: the named tokens, under the control tag. Needs base.
-- `tokens`: by the SHA-256 of each secret, its record as JSON { name, role, selector?, createdAt, createdBy, expiresAt?, revokedAt?,
-- revokedBy? }. `tokens:names`: that hash by name. `tokens:used`: the time of the last use by name, to the minute.
local function read_token(hash)
  local text = hash and redis.call('HGET', key('tokens'), hash)
  local legible, token = pcall(cjson.decode, text or '')
  if not legible or type(token) ~= 'table' then return nil end
  return token, text
end

-- Why it opens nothing any more; nil while it is valid.
local function over(token)
  if token.revokedAt then return 'REVOKED' end
  if token.expiresAt and token.expiresAt <= NOW then return 'EXPIRED' end
  return nil
end

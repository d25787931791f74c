-- token: the named tokens, in the control slot. Needs base. `tokens`: hash of each secret (SHA-256) → its record as JSON {
-- name, role, selector?, createdAt, createdBy, expiresAt?, revokedAt?, revokedBy? }. `tokens:names`: name → that hash.
-- `tokens:used`: name → the time of its last use, to the minute.
local function read_token(hash)
  local text = hash and redis.call('HGET', key('tokens'), hash)
  local legible, token = pcall(cjson.decode, text or '')
  if not legible or type(token) ~= 'table' then return nil end
  return token, text
end

-- Why the token is not valid any more; nil while it is valid.
local function over(token)
  if token.revokedAt then return 'REVOKED' end
  if token.expiresAt and token.expiresAt <= NOW then return 'EXPIRED' end
  return nil
end

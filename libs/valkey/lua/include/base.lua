-- base: the clock, keys and refusals every script shares.
-- Before it the loader puts one line, `local TABLES = { … }`: the state tables of libs/contracts.
-- Convention: KEYS[1] routes the call to its slot; ARGV[1] is the slot's tag, every other key is made from it.
local TAG = ARGV[1]
local function key(suffix) return TAG .. ':' .. suffix end

-- While a slot of a Cluster moves, each of two nodes has a part of its keys. The server checks only the declared key before a
-- script begins, so the script would fail half-way, or create keys that exist on the other node. Both nodes refuse a command
-- with two keys that never exist. So the script ends here, having written nothing, and the caller repeats it.
local MOVING = redis.pcall('EXISTS', key('never'), key('nowhere'))
if type(MOVING) == 'table' then
  return redis.error_reply('TRYAGAIN The slot of ' .. TAG .. ' is moving to another node')
end

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1]) * 1000 + math.floor(tonumber(TIME[2]) / 1000)
-- Lua prints 1.7e12 as a float; stored and returned numbers must stay whole.
local function int(n) return string.format('%.0f', n) end

local function refuse(code, fields)
  fields = fields or {}
  fields.refused = code
  return cjson.encode(fields)
end

local function allowed(entity, from, to)
  local row = TABLES[entity][from]
  return row ~= nil and row[to] ~= nil
end

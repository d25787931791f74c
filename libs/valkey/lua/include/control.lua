-- control: the parts that the scripts of orders and workers share. Their keys are in the control slot, not in a shard. Needs
-- base. ARGV[3] is the JSON of the call's fixed settings: { channel, doorbell, controlEvents, ordersKept, retentionMs }
local CONF = cjson.decode(ARGV[3])

-- The books of orders. A corrupt book must not keep an order from being stored, announced or settled.
local BOOKS = { audit = 'stream', ['audit:head'] = 'hash', events = 'stream', ['events:seq'] = 'string', orders = 'stream',
  ['orders:open'] = 'set', ['orders:by-scope'] = 'hash', ['idx:ord'] = 'zset', ['latches:version'] = 'string' }

-- Raises an alarm: the quarantine lists the key, and an event is published.
local function tell_corrupt(name, problem)
  local entry = { key = name, problem = problem, cut = '', firstSeenAt = NOW, print = redis.call('TYPE', name).ok }
  if redis.call('HLEN', key('quarantine')) < 1000 then redis.call('HSETNX', key('quarantine'), name .. '\t', cjson.encode(entry)) end
  redis.call('PUBLISH', CONF.channel, cjson.encode({ type = 'record.quarantined', entity = 'record', at = NOW, data = { key = name, problem = problem } }))
end

-- Open orders have records of their own, so the set of them can be rebuilt.
local function list_open_again()
  for _, id in ipairs(redis.call('ZREVRANGE', key('idx:ord'), 0, 999)) do
    -- A record of another type must not hide the others: the error it gives has no state.
    local state = redis.pcall('HMGET', key('ord:' .. id), 'state', 'closedAt')
    if state[1] and state[1] ~= 'complete' and not state[2] then redis.call('SADD', key('orders:open'), id) end
  end
end

-- Moves a book of the wrong type aside, with its content, for a person to look at.
local function set_aside(name)
  local kind = redis.call('TYPE', key(name)).ok
  if kind == 'none' then return end
  if kind == BOOKS[name] and not (kind == 'string' and not tonumber(redis.call('GET', key(name)))) then return end
  local aside = key(name) .. ':set-aside:' .. int(NOW)
  redis.call('RENAME', key(name), aside)
  if name == 'orders:open' then pcall(list_open_again) end
  pcall(tell_corrupt, aside, 'it was at ' .. key(name) .. ', which holds a ' .. BOOKS[name] .. ', and is a ' .. kind)
end

-- Writes to books. If a book is corrupt, sets it aside and writes to a fresh one. Never fails: nil where it could not write.
local function keeping(names, act)
  local done, answer = pcall(act)
  if done then return answer end
  for _, name in ipairs(names) do set_aside(name) end
  done, answer = pcall(act)
  if done then return answer end
  pcall(tell_corrupt, key(names[1]), 'it cannot be written: ' .. tostring(type(answer) == 'table' and answer.err or answer))
  return nil
end

local function emit_control(event)
  event.at = NOW
  local told = keeping({ 'events:seq', 'events' }, function()
    event.seq = redis.call('INCR', key('events:seq'))
    local body = cjson.encode(event)
    local id = redis.call('XADD', key('events'), 'MAXLEN', '~', int(CONF.controlEvents), '*', 'e', body)
    return '{"id":"' .. id .. '",' .. string.sub(body, 2)
  end)
  redis.call('PUBLISH', CONF.channel, told or cjson.encode(event))
end

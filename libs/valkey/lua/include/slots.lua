-- slots: which attempts may start under the fleet's limits (ADR 0024), in the control slot. Needs base. These keys decide:
--   `lim:held`          hash: attempt → { g = its grant, k = its names, v = the version of its limits, at }
--   `lim:run:<name>`    set of those attempts
--   `lim:rate:<name>`   the starts of the last minute
-- A ticket (`lim:tickets:<name>`) only lets a job into BullMQ, and lapses by itself. These keys keep the order:
--   `lim:waiting`       hash: attempt → { q, k, e = outbox entry as text }
--   `lim:q:<class>`     the attempts of one class in their order; a class is names and pool
--   `lim:ring:<name>`   the classes that wait for one full name, the class served longest ago first
--   `lim:woken`         attempts with a ticket that no worker has claimed yet
--   `lim:out:<class>`   those of one class, by the time at which the ticket lapses
-- Members are ids, so a repeat changes nothing.
local TICKET_MS, RATE_MS, AGAIN_MS = 20000, 60000, 60000
-- A lapsed ticket takes no room. It is kept so that an attempt which passed the gate does not count as new when it asks for its
-- slot.
local TICKET_KEPT_MS = 3600000
-- One ticket may lapse because the process that should hand the attempt over died. Two lapsed tickets show that the pool takes
-- no jobs.
local MOST_LAPSED = 2
local VERSION = redis.call('HGET', key('limits'), 'version') or '0'
local RULES = {}
-- Limits were set and the running attempts are not counted yet. Until then no attempt gets a slot under the limits.
local IS_COUNTING = redis.call('HEXISTS', key('limits'), 'counting') == 1
for _, rule in ipairs(cjson.decode(redis.call('HGET', key('limits'), 'set') or '[]')) do
  RULES[rule.by] = RULES[rule.by] or {}
  table.insert(RULES[rule.by], rule)
end
local function rules_of(name) return RULES[string.match(name, '^[^=]*')] or {} end

local function is_limited(names)
  for _, name in ipairs(names) do
    if #rules_of(name) > 0 then return true end
  end
  return false
end

-- A clock that was ahead and was set back has left times later than any that is given now. They are lowered to `latest`, since
-- otherwise they would count for as long as the clock was ahead. A bounded number in each call.
local MOST_PUT_BACK = 1000
local put_back = {}
local function not_after(name, furthest, latest)
  if put_back[name] then return end
  put_back[name] = true
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', name, '(' .. int(furthest), '+inf', 'LIMIT', 0, MOST_PUT_BACK)) do
    redis.call('ZADD', name, int(latest), member)
  end
end

-- How many more attempts may start under a name. With `tickets`, attempts that have a ticket count too.
local function room(name, tickets)
  local rules, left = rules_of(name), math.huge
  if #rules == 0 then return left end
  if IS_COUNTING then return 0 end
  local out = 0
  if tickets then
    not_after(key('lim:tickets:' .. name), NOW + TICKET_MS, NOW + TICKET_MS)
    redis.call('ZREMRANGEBYSCORE', key('lim:tickets:' .. name), '-inf', int(NOW - TICKET_KEPT_MS))
    out = redis.call('ZCOUNT', key('lim:tickets:' .. name), '(' .. int(NOW), '+inf')
  end
  for _, rule in ipairs(rules) do
    if rule.running then left = math.min(left, rule.running - redis.call('SCARD', key('lim:run:' .. name)) - out) end
    if rule.perMinute then
      not_after(key('lim:rate:' .. name), NOW, NOW)
      redis.call('ZREMRANGEBYSCORE', key('lim:rate:' .. name), '-inf', int(NOW - RATE_MS))
      left = math.min(left, rule.perMinute - redis.call('ZCARD', key('lim:rate:' .. name)) - out)
    end
  end
  return left
end

local function full_name(names, tickets)
  for _, name in ipairs(names) do
    if room(name, tickets) <= 0 then return name end
  end
  return nil
end

local function give_tickets(names, id)
  for _, name in ipairs(names) do
    if #rules_of(name) > 0 then redis.call('ZADD', key('lim:tickets:' .. name), int(NOW + TICKET_MS), id)
      redis.call('PEXPIRE', key('lim:tickets:' .. name), TICKET_MS + TICKET_KEPT_MS)
    end
  end
end
local function take_tickets(names, id)
  for _, name in ipairs(names) do redis.call('ZREM', key('lim:tickets:' .. name), id) end
end

-- Whether the attempt has passed the gate or was woken. Then it does not wait behind later ones.
local function had_turn(names, id)
  if redis.call('ZSCORE', key('lim:woken'), id) then return true end
  for _, name in ipairs(names) do
    if redis.call('ZSCORE', key('lim:tickets:' .. name), id) then return true end
  end
  return false
end

-- A class waits for one name. Its place in the ring is the number of its last turn. A new class comes before the class with the
-- latest turn, so that each other class delays it by one slot at most.
local function leave_ring(class)
  local name = redis.call('HGET', key('lim:at'), class)
  if not name then return nil end
  local turn = redis.call('ZSCORE', key('lim:ring:' .. name), class)
  redis.call('HDEL', key('lim:at'), class)
  redis.call('ZREM', key('lim:ring:' .. name), class)
  if redis.call('EXISTS', key('lim:ring:' .. name)) == 0 then redis.call('ZREM', key('lim:rings'), name) end
  return turn
end
local function wait_for(class, name)
  if redis.call('HGET', key('lim:at'), class) == name then return end
  local turn = leave_ring(class) or tonumber(redis.call('GET', key('lim:turns')) or '0') - 0.5
  redis.call('HSET', key('lim:at'), class, name)
  redis.call('ZADD', key('lim:ring:' .. name), turn, class)
  redis.call('ZADD', key('lim:rings'), 'NX', 0, name)
end

local function leave_queue(class, id)
  redis.call('ZREM', key('lim:q:' .. class), id)
  if redis.call('EXISTS', key('lim:q:' .. class)) == 0 then leave_ring(class) end
end

-- Removes a waiting attempt from every key that `waiting`, its record, names.
local function unwind(id, waiting)
  redis.call('ZREM', key('lim:woken'), id)
  redis.call('ZREM', key('lim:out:' .. waiting.q), id)
  take_tickets(waiting.k, id)
  leave_queue(waiting.q, id)
end

local function forget_waiting(id)
  local text = redis.call('HGET', key('lim:waiting'), id)
  if not text then return nil end
  local waiting = cjson.decode(text)
  redis.call('HDEL', key('lim:waiting'), id)
  unwind(id, waiting)
  return waiting
end

-- Whether the class's pool takes no jobs. Its tickets lapse, and another ticket would keep the room from other pools.
local function is_out(class)
  local out = key('lim:out:' .. class)
  not_after(out, NOW + TICKET_MS, NOW + TICKET_MS)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', out, '-inf', int(NOW), 'LIMIT', 0, 10)) do
    -- A process of an older release does not remove the attempt from this list.
    if not redis.call('ZSCORE', key('lim:woken'), id) then redis.call('ZREM', out, id) end
  end
  return redis.call('ZCOUNT', out, '-inf', int(NOW)) >= MOST_LAPSED
end

local function class_of(names, pool) return table.concat(names, '\n') .. '\n' .. pool end

-- The name for which earlier attempts wait. It may have room meanwhile, by the clock or by changed limits.
local function queued_for(names, pool)
  local at = redis.call('HGET', key('lim:at'), class_of(names, pool))
  if at then return at end
  for _, name in ipairs(names) do
    if redis.call('EXISTS', key('lim:ring:' .. name)) == 1 then return name end
  end
  return nil
end

-- `entry` as a table. Higher priority first, then order of arrival; an attempt that returns keeps its place.
local function enqueue(id, names, entry, blocked)
  local class = class_of(names, entry.pool)
  local text = redis.call('HGET', key('lim:waiting'), id)
  local before = text and cjson.decode(text)
  local place = before and before.p
  if before and before.q ~= class then unwind(id, before) end
  if not place then
    place = (11 - (entry.priority or 5)) * 1e13 + redis.call('INCR', key('lim:places'))
  end
  entry.limits = names
  entry.delayMs = 0
  redis.call('HSET', key('lim:waiting'), id, cjson.encode({ q = class, k = names, p = place, e = cjson.encode(entry) }))
  if before then
    redis.call('ZREM', key('lim:woken'), id)
    redis.call('ZREM', key('lim:out:' .. class), id)
  end
  take_tickets(names, id)
  redis.call('ZADD', key('lim:q:' .. class), int(place), id)
  wait_for(class, blocked)
end

-- Gives tickets to the first attempts of the classes that wait for a name, in turn. Adds outbox entries as text to `woken`.
-- Returns whether it stopped because it had looked at `most` classes.
local function wake(name, woken, most)
  -- A class whose pool takes no jobs goes to the end of the ring once. When its turn comes again it is passed over, so that the
  -- classes behind it, which were served, get the rest of the room.
  local skipped, passed = {}, 0
  for _ = 1, most do
    if room(name, true) <= 0 then return false end
    local class = redis.call('ZRANGE', key('lim:ring:' .. name), passed, passed)[1]
    if not class then
      if passed == 0 then redis.call('ZREM', key('lim:rings'), name) end
      return false
    end
    local id = redis.call('ZRANGE', key('lim:q:' .. class), 0, 0)[1]
    local text = id and redis.call('HGET', key('lim:waiting'), id)
    local waiting = text and cjson.decode(text)
    local blocked = waiting and full_name(waiting.k, true)
    if skipped[class] then passed = passed + 1
    elseif not id then leave_ring(class)
    elseif not waiting then leave_queue(class, id)
    elseif is_limited(waiting.k) and is_out(class) then
      skipped[class] = true
      redis.call('ZADD', key('lim:ring:' .. name), redis.call('INCR', key('lim:turns')), class)
    elseif blocked then
      -- The class waits for the name that is full, and does not stand in the way of the others.
      wait_for(class, blocked)
    else
      redis.call('ZREM', key('lim:q:' .. class), id)
      give_tickets(waiting.k, id)
      redis.call('ZADD', key('lim:woken'), int(NOW + TICKET_MS), id)
      redis.call('ZADD', key('lim:out:' .. class), int(NOW + TICKET_MS), id)
      woken[#woken + 1] = waiting.e
      redis.call('ZADD', key('lim:ring:' .. name), redis.call('INCR', key('lim:turns')), class)
      if redis.call('EXISTS', key('lim:q:' .. class)) == 0 then leave_ring(class) end
    end
  end
  return true
end

-- Removes an attempt from all keys of the limits. Returns the names under which there may be room now.
local function let_go(id, is_unstarted)
  local text = redis.call('HGET', key('lim:held'), id)
  local names = text and cjson.decode(text).k
  if names then
    redis.call('HDEL', key('lim:held'), id)
    for _, name in ipairs(names) do
      redis.call('SREM', key('lim:run:' .. name), id)
      if is_unstarted then redis.call('ZREM', key('lim:rate:' .. name), id) end
    end
  end
  local waiting = forget_waiting(id)
  return names or (waiting and waiting.k) or {}
end

local function hold(id, names, starts)
  local grant = redis.call('INCR', key('lim:grants'))
  redis.call('HSET', key('lim:held'), id, cjson.encode({ g = grant, k = names, v = VERSION, at = NOW }))
  for _, name in ipairs(names) do
    redis.call('SADD', key('lim:run:' .. name), id)
    for _, rule in ipairs(rules_of(name)) do
      if rule.perMinute and starts then redis.call('ZADD', key('lim:rate:' .. name), 'NX', int(NOW), id) end
    end
    if redis.call('EXISTS', key('lim:rate:' .. name)) == 1 then redis.call('PEXPIRE', key('lim:rate:' .. name), RATE_MS) end
  end
  return grant
end

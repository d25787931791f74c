-- order: one order's record and receipt. Needs base, control and audit. ARGV[2] is the order id.
local ORDER = ARGV[2]
local order_key = key('ord:' .. ORDER)
local targets_key = order_key .. ':targets'
local sealed_key = order_key .. ':sealed'
-- Agents of the receipt without a confirmed outcome. Repairs and counts read this set, never the whole receipt.
local missing_key = order_key .. ':missing'
local stopped_key = order_key .. ':stopped'
local STOPPED_TOLD = 100
local STOPPED_KEPT = 10000
local CONFIRMED = { killed = true, frozen = true, thawed = true, ['already-ended'] = true }

local function outcome_counts()
  local counts = {}
  for outcome in pairs(CONFIRMED) do
    local n = redis.call('HGET', order_key, 'o:' .. outcome)
    if n then counts[outcome] = tonumber(n) end
  end
  return counts
end

local function missing_count() return redis.call('SCARD', missing_key) end

-- Targets that a worker has not dealt with yet: one "order agent" each. A heartbeat brings their number.
local function own_targets(worker) return key('wrk:' .. worker .. ':targets') end

-- The receipt's keys expire together with its record.
local function expire_receipt()
  for _, name in ipairs({ order_key, targets_key, sealed_key, missing_key, stopped_key }) do redis.call('PEXPIRE', name, int(CONF.retentionMs)) end
end

-- The executions that the order stopped, for the audit log: the first of them by id, and the number of all.
local function stopped_executions()
  local count = redis.call('SCARD', stopped_key)
  if count == 0 then return nil end
  return { count = count, ids = redis.call('SRANDMEMBER', stopped_key, STOPPED_TOLD) }
end

-- Moves the order to the state that its receipt allows. `give_up` marks the open targets as missing.
local function settle_order(give_up)
  local state = redis.call('HGET', order_key, 'state')
  if state == 'complete' or redis.call('HEXISTS', order_key, 'resolvedAt') == 0 then return state end
  local missing = missing_count()
  local to
  if missing == 0 then to = 'complete' elseif give_up and state == 'open' then to = 'incomplete' end
  if not to or not allowed('order', state, to) then return state end
  redis.call('HSET', order_key, 'state', to)
  -- No order joins one that has ended, complete or not: a later request gets a new order.
  local scope = redis.call('HGET', order_key, 'scopeKey')
  keeping({ 'orders:by-scope' }, function()
    if redis.call('HGET', key('orders:by-scope'), scope) == ORDER then redis.call('HDEL', key('orders:by-scope'), scope) end
  end)
  if to == 'complete' then
    redis.call('HSET', order_key, 'completedAt', int(NOW))
    keeping({ 'orders:open' }, function() redis.call('SREM', key('orders:open'), ORDER) end)
    expire_receipt()
  end
  audit({ act = 'order.' .. to, orderId = ORDER, missing = missing, outcomes = outcome_counts(), executions = stopped_executions(), digest = redis.call('HGET', order_key, 'digest') or nil })
  emit_control({ type = 'order.' .. to, entity = 'order', from = state, to = to, data = { orderId = ORDER, missing = missing } })
  return to
end

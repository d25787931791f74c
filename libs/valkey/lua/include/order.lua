-- order: one order's record and receipt. Needs base, control and audit. ARGV[2] is the order id.
local ORDER = ARGV[2]
local order_key = key('ord:' .. ORDER)
local targets_key = order_key .. ':targets'
local sealed_key = order_key .. ':sealed'
local CONFIRMED = { killed = true, frozen = true, thawed = true, ['already-ended'] = true }

local function outcome_counts()
  local counts = {}
  for outcome in pairs(CONFIRMED) do
    local n = redis.call('HGET', order_key, 'o:' .. outcome)
    if n then counts[outcome] = tonumber(n) end
  end
  return counts
end

-- Moves the order on when its receipt allows it. `give_up` marks what is still open as incomplete.
local function settle_order(give_up)
  local state = redis.call('HGET', order_key, 'state')
  if state == 'complete' or redis.call('HEXISTS', order_key, 'resolvedAt') == 0 then return state end
  local missing = tonumber(redis.call('HGET', order_key, 'missing') or '0')
  local to
  if missing == 0 then to = 'complete' elseif give_up and state == 'open' then to = 'incomplete' end
  if not to then return state end
  redis.call('HSET', order_key, 'state', to)
  -- Nobody joins an order that is over, complete or not: who asks again gets a new one.
  local scope = redis.call('HGET', order_key, 'scopeKey')
  if redis.call('HGET', key('orders:by-scope'), scope) == ORDER then redis.call('HDEL', key('orders:by-scope'), scope) end
  if to == 'complete' then
    redis.call('HSET', order_key, 'completedAt', int(NOW))
    redis.call('SREM', key('orders:open'), ORDER)
    for _, name in ipairs({ order_key, targets_key, sealed_key }) do redis.call('PEXPIRE', name, int(CONF.retentionMs)) end
  end
  audit({ act = 'order.' .. to, orderId = ORDER, missing = missing, outcomes = outcome_counts(), digest = redis.call('HGET', order_key, 'digest') or nil })
  emit_control({ type = 'order.' .. to, entity = 'order', from = state, to = to, data = { orderId = ORDER, missing = missing } })
  return to
end

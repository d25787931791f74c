-- order: one order's record and receipt. Needs base and control. ARGV[2] is the order id.
local ORDER = ARGV[2]
local order_key = key('ord:' .. ORDER)
local targets_key = order_key .. ':targets'
local CONFIRMED = { killed = true, ['already-ended'] = true }

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
    redis.call('PEXPIRE', order_key, int(CONF.retentionMs))
    redis.call('PEXPIRE', targets_key, int(CONF.retentionMs))
  end
  emit_control({ type = 'order.' .. to, entity = 'order', from = state, to = to, data = { orderId = ORDER, missing = missing } })
  return to
end

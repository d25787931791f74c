-- placeOrder: writes an order to the log and engages its latch, then rings the doorbell with it. Durable before announced. With
-- a latch it does not ring: the caller copies the latch to every shard first, then rings. Repeatable by order id. A process
-- with a copy of a placed order that a failover lost may repeat it, and the order keeps its time. While an order of the same
-- kind for the same execution or agent is open, a second order that asks for no more joins it. Wide scopes never join: the
-- first order's targets lack what began after it.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 order JSON without seq and placedAt · 5 what it can join by, or ''
--         · 6 latch JSON without engagedAt, or '' · 7 most latches
-- Returns { order = JSON text, created, latches = LatchSet JSON text when one was engaged, latchLost? = it could not be }
--         · refused: TOO_MANY_LATCHES
-- Events  order.open, latch.engaged
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
--!include engage
--!include place
local existing = redis.call('HGET', order_key, 'order')
if existing then
  return cjson.encode({ order = existing, created = false, latches = ARGV[6] ~= '' and latch_set() or nil })
end
local order = cjson.decode(ARGV[4])
local joins = ARGV[5] ~= ''
local other = joins and keeping({ 'orders:by-scope' }, function() return redis.call('HGET', key('orders:by-scope'), ARGV[5]) end)
if other then
  -- No order joins one that cannot be read. A record of another type must not keep a new kill from being placed.
  local open = redis.pcall('HGET', key('ord:' .. other), 'order')
  local legible, held = pcall(cjson.decode, open or '')
  if not legible or type(held) ~= 'table' then held = nil end
  -- A faster order never waits behind a slower one. An order with a latch brings its own, unless the open order's is engaged.
  local latched = ARGV[6] ~= ''
  local engaged = held and held.latchId and redis.pcall('HEXISTS', key('latches'), held.latchId) == 1
  local weaker = held and ((order.mode == 'immediate' and held.mode ~= 'immediate')
    or (order.graceMs and order.graceMs < (held.graceMs or math.huge))
    -- An order without a grace of its own uses the nodes' graces, which may be shorter than the open order's.
    or (held.graceMs and not order.graceMs) or (latched and not engaged)
    -- The release of a latch ends its freeze, so a freeze that a resume ends must not join it.
    or (order.kind == 'freeze' and not latched and held.latchId))
  if held and not weaker then
    audit({ act = 'order.joined', orderId = other, kind = order.kind, scope = order.scope, by = order.by, role = order.role,
      requestId = order.requestId, note = order.note })
    return cjson.encode({ order = open, created = false })
  end
end
local latch = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or nil
local released = latch and redis.call('EXISTS', key('lat:' .. latch.id)) == 1
local lost = false
if latch and not released then
  -- The list of latches is no book: setting it aside would release every latch. So the kill goes without a latch, and says so.
  local done, engaged = pcall(engage, latch, tonumber(ARGV[7]))
  if done and not engaged then return refuse('TOO_MANY_LATCHES', { most = tonumber(ARGV[7]) }) end
  if not done then
    pcall(tell_corrupt, key('latches'), 'a latch could not be engaged')
    lost, latch, order.latchId = true, nil, nil
  end
end
local body = place(order, ARGV[5], latch == nil)
return cjson.encode({ order = body, created = true, latches = latch and latch_set() or nil, latchLost = lost or nil })

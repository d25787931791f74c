-- addTargets: names agents an order must be confirmed for; the last call of the giver marks the list resolved. A worker
-- names what it claimed while the order was open. Repeatable; an order that is complete takes no more.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 JSON array of [agent id, target JSON text] · 5 resolved: 1 or 0
-- Returns { state, taken = false when it was over already } · refused: NOT_FOUND
-- Events  order.complete when nothing is missing
--!include base
--!include control
--!include audit
--!include order
local state = redis.call('HGET', order_key, 'state')
if not state then return refuse('NOT_FOUND') end
if state == 'complete' then return cjson.encode({ state = state, taken = false }) end
for _, pair in ipairs(cjson.decode(ARGV[4])) do
  if redis.call('HSETNX', targets_key, pair[1], pair[2]) == 1 then redis.call('HINCRBY', order_key, 'missing', 1) end
end
if ARGV[5] == '1' then redis.call('HSETNX', order_key, 'resolvedAt', int(NOW)) end
return cjson.encode({ state = settle_order(false), taken = true })

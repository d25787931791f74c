-- addTargets: names agents an order must be confirmed for; the last call marks the list resolved. Repeatable.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 JSON array of [agent id, target JSON text] · 5 resolved: 1 or 0
-- Returns { state } · refused: NOT_FOUND
-- Events  order.complete when nothing is missing
--!include base
--!include control
--!include order
if redis.call('EXISTS', order_key) == 0 then return refuse('NOT_FOUND') end
for _, pair in ipairs(cjson.decode(ARGV[4])) do
  if redis.call('HSETNX', targets_key, pair[1], pair[2]) == 1 then redis.call('HINCRBY', order_key, 'missing', 1) end
end
if ARGV[5] == '1' then redis.call('HSETNX', order_key, 'resolvedAt', int(NOW)) end
return cjson.encode({ state = settle_order(false) })

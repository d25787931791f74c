-- expireOrder: the time limit of an order's receipt has passed: the missing confirmations are declared missing. Repeatable.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings
-- Returns { state } · refused: NOT_FOUND
-- Events  order.incomplete, or order.complete when nothing is missing
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
if redis.call('EXISTS', order_key) == 0 then return refuse('NOT_FOUND') end
return cjson.encode({ state = settle_order(true) })

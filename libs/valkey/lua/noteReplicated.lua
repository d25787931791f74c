-- noteReplicated: stores with an order whether a replica had it in time. Repeatable. An order that is gone is refused.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 1 or 0
-- Returns {} · refused: NOT_FOUND
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
if redis.call('HEXISTS', order_key, 'order') == 0 then return refuse('NOT_FOUND') end
redis.call('HSET', order_key, 'replicated', ARGV[4])
return '{}'

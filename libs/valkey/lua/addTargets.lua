-- addTargets: names agents for which an order needs a confirmation. The last call of the process that placed the order marks
-- the list resolved. A worker names the attempts that it claimed while the order was open. Repeatable. A complete order takes
-- no more targets. Once an order was resolved, it takes no more from workers if it is not open any more, if its latch was
-- released, or if it is for one execution: a worker claims now only attempts that began after it.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 JSON array of [agent id, target JSON text, its worker or '']
--         · 5 resolved: 1 or 0 · 6 longest grace of those named, in ms · 7 JSON array of the executions it stopped
--         · 8 what it reaches, JSON { tag: beginnings }, or '': kept with resolved · 9 what the receipt warns of, JSON, or ''
-- Returns { state, taken = false when it was over already } · refused: NOT_FOUND
-- Events  order.complete when nothing is missing
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
local state = redis.call('HGET', order_key, 'state')
if not state then return refuse('NOT_FOUND') end
local function is_over()
  if state == 'complete' then return true end
  if ARGV[5] == '1' or redis.call('HEXISTS', order_key, 'resolvedAt') == 0 then return false end
  if state ~= 'open' then return true end
  local order = cjson.decode(redis.call('HGET', order_key, 'order'))
  if order.kind ~= 'kill' then return false end
  -- The order stopped the execution before it was resolved, so a claim since then is of a retry.
  if order.scope.type == 'execution' then return true end
  return order.latchId ~= nil and redis.call('HEXISTS', key('latches'), order.latchId) == 0
end
if is_over() then return cjson.encode({ state = state, taken = false }) end
for _, pair in ipairs(cjson.decode(ARGV[4])) do
  if redis.call('HSETNX', targets_key, pair[1], pair[2]) == 1 then
    redis.call('SADD', missing_key, pair[1])
    if type(pair[3]) == 'string' and pair[3] ~= '' then
      redis.call('SADD', own_targets(pair[3]), ORDER .. ' ' .. pair[1])
      redis.call('PEXPIRE', own_targets(pair[3]), int(CONF.retentionMs))
    end
  end
end
local longest = tonumber(redis.call('HGET', order_key, 'longestGraceMs') or '0')
if tonumber(ARGV[6]) > longest then redis.call('HSET', order_key, 'longestGraceMs', ARGV[6]) end
local stopped = cjson.decode(ARGV[7])
if #stopped > 0 and redis.call('SCARD', stopped_key) < STOPPED_KEPT then redis.call('SADD', stopped_key, unpack(stopped)) end
if ARGV[5] == '1' then
  redis.call('HSETNX', order_key, 'resolvedAt', int(NOW))
  if ARGV[8] ~= '' then redis.call('HSETNX', order_key, 'reach', ARGV[8]) end
  if ARGV[9] ~= '' then redis.call('HSETNX', order_key, 'warning', ARGV[9]) end
end
return cjson.encode({ state = settle_order(false), taken = true })

-- control: what orders and workers share. They live under the control tag, not in a shard. Needs base.
-- ARGV[3] is the JSON of the call's fixed settings: { channel, doorbell, controlEvents, ordersKept, retentionMs }
local CONF = cjson.decode(ARGV[3])

local function emit_control(event)
  event.seq = redis.call('INCR', key('events:seq'))
  event.at = NOW
  local body = cjson.encode(event)
  local id = redis.call('XADD', key('events'), 'MAXLEN', '~', int(CONF.controlEvents), '*', 'e', body)
  redis.call('PUBLISH', CONF.channel, '{"id":"' .. id .. '",' .. string.sub(body, 2))
end

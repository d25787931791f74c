-- audit: one entry of the audit log, chained to the one before: a changed, missing or inserted entry shows when the
-- chain is computed again. Needs base and control.
local function audit(entry)
  entry.at = NOW
  keeping({ 'audit:head', 'audit' }, function()
    local head = redis.call('HMGET', key('audit:head'), 'n', 'hash')
    entry.n = tonumber(head[1] or '0') + 1
    local body = cjson.encode(entry)
    local hash = redis.sha1hex((head[2] or '') .. '\n' .. body)
    redis.call('XADD', key('audit'), 'MAXLEN', '~', int(CONF.auditKept), '*', 'e', body, 'h', hash)
    redis.call('HSET', key('audit:head'), 'n', int(entry.n), 'hash', hash)
  end)
end

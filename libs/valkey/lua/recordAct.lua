-- recordAct: adds an act that was done without the server to the audit log, once the server is back. Repeatable by id.
-- KEYS[1] the audit log
-- ARGV    1 control tag · 2 the act's id · 3 settings · 4 entry JSON { act, by, … }
-- Returns nothing of use
--!flags allow-oom
--!include base
--!include control
--!include audit
if redis.call('SET', key('act:' .. ARGV[2]), 1, 'NX', 'PX', int(CONF.retentionMs)) then audit(cjson.decode(ARGV[4])) end
return 'OK'

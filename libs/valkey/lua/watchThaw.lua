-- watchThaw: keeps in mind that a thaw of an execution's own freeze is placed, until somebody has looked whether the execution was
-- frozen again meanwhile: the thaw may come after that freeze in the log and end it. Each thaw has an entry of its own. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 the entry's id · 5 begins or looked
--         · 6 looked: the entry's least age, since the thaw of a younger one may still be placed. Milliseconds
-- Returns { }
-- Events  none
--!flags allow-oom
--!include base
--!include execution
local entry = EXE .. ' ' .. ARGV[4]
if ARGV[5] == 'begins' then
  redis.call('ZADD', key('thaws'), 'NX', int(NOW), entry)
else
  local since = redis.call('ZSCORE', key('thaws'), entry)
  if since and NOW - tonumber(since) >= tonumber(ARGV[6]) then redis.call('ZREM', key('thaws'), entry) end
end
return '{}'

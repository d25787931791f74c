-- holdOrdered: removes the mark of a pause or a resume, once the log has its order or none is needed any more. The mark of a
-- later pause or resume stays: its own order is still to be placed. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 freezing or thawing · 5 the mark as it was read, or '' where there was none
-- Returns { removed = false when the mark is another one's }
-- Events  none
--!flags allow-oom
--!include base
--!include execution
local mark = field(ARGV[4])
if mark and mark ~= ARGV[5] then return cjson.encode({ removed = false }) end
redis.call('HDEL', exe_key, ARGV[4])
redis.call('SREM', key(ARGV[4]), EXE)
return cjson.encode({ removed = true })

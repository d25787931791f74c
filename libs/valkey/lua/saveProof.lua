-- saveProof: stores a proof about a worker's processes that another process made. Repeatable.
-- KEYS[1] the proof
-- ARGV    1 control tag · 2 the proof, JSON · 3 ms that it is kept · 4 NX when it is about some of the trees only: such a proof
--         never replaces another; else ''
-- Returns nothing of use
--!flags allow-oom
--!include base
if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3], 'NX') end
return 'OK'

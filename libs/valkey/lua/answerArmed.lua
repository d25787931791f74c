-- answerArmed: stores a worker's answer to one nonce of `armed` for a short time. Repeatable.
-- KEYS[1] the answers to the nonce
-- ARGV    1 control tag · 2 worker id · 3 the answer, JSON · 4 ms that it is kept · 5 channel of events
-- Returns nothing of use
-- Events  worker.armed, published only
--!flags allow-oom
--!include base
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], cjson.encode({ type = 'worker.armed', entity = 'worker', workerId = ARGV[2] }))
return 'OK'

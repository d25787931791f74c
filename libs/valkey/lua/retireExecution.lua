-- retireExecution: removes an ended execution: retention has too many, they take too much memory, or a person deletes it. An
-- execution with an attempt that nobody has seen dead stays. The records of its agents get another name here, by which only the
-- caller finds them: it removes their logs, since they may be many, and then that list. The removal is listed as unfinished
-- until then. Repeatable by removal id.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 removal id · 4 JSON of who removes it { by, role?, requestId? }; retention gives neither
-- Returns { state? = its last state, unless its record has expired, at }
--         · refused: NOT_FOUND · NOT_ENDED { state } · NOT_PROVED { agentId, count, living }
--!flags allow-oom
--!include base
--!include parts
--!include unlist
local id, exe_key, removal = ARGV[2], KEYS[1], ARGV[3]
local state = redis.call('HGET', exe_key, 'state') or nil
local ended = redis.call('ZSCORE', key('expiry'), id)
if not state and not ended then
  local text = redis.call('HGET', key('removals'), id)
  local before = text and cjson.decode(text)
  if before and removal and before.id == removal then return cjson.encode({ state = before.state, at = before.at }) end
  return refuse('NOT_FOUND')
end
local function refuse_unproved(agents, living)
  return refuse('NOT_PROVED', { agentId = redis.call('SRANDMEMBER', agents), count = redis.call('SCARD', agents), living = living })
end
-- An ended execution stays in this index until it is retried or removed, and enters it when its last agent has ended.
if not ended then
  local final = state == 'completed' or state == 'failed' or state == 'stopped'
  if final and redis.call('SCARD', exe_key .. ':live') > 0 then return refuse_unproved(exe_key .. ':live', true) end
  return refuse('NOT_ENDED', { state = state })
end
if redis.call('SCARD', exe_key .. ':unproved') > 0 then return refuse_unproved(exe_key .. ':unproved', false) end
local idem = redis.call('HGET', exe_key, 'idempotencyKey')
if idem and redis.call('GET', key('idem:' .. idem)) == id then redis.call('UNLINK', key('idem:' .. idem)) end
if redis.call('TYPE', exe_key .. ':agents').ok == 'hash' then
  redis.call('RENAME', exe_key .. ':agents', exe_key .. ':removed')
  redis.call('PERSIST', exe_key .. ':removed')
end
for _, suffix in ipairs(PARTS) do redis.call('UNLINK', exe_key .. suffix) end
unlist_execution(id)
local at = tonumber(int(NOW))
-- Without a record there is nothing that the caller has deleted: it is told that there was none.
local said = state and ARGV[4] and cjson.decode(ARGV[4]) or nil
redis.call('HSET', key('removals'), id, cjson.encode({ id = removal, at = at, state = state, said = said }))
return cjson.encode({ state = state, at = at })

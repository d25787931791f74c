-- admit: whether an execution may come to exist now. Needs base, execution and latch, and the arguments that
-- admitExecution and commitExecution share:
-- ARGV    4 record fields as a JSON object of strings · 5 number of nodes · 6 start: 1 or 0 · 7 labels as a JSON array of
--         "k=v" · 8 JSON array of what its nodes are, without repetition: { pool, labels }; empty when they are too many kinds
local fields = cjson.decode(ARGV[4])
local idem = fields.idempotencyKey

-- The answer that ends the submit; nil when nothing is in its way.
local function not_admitted()
  if redis.call('EXISTS', exe_key) == 1 then return cjson.encode({ created = true, id = EXE }) end
  if idem then
    local other = redis.call('GET', key('idem:' .. idem))
    if other then
      local same = redis.call('HGET', key('exe:' .. other), 'specHash') == fields.specHash
      if same then return cjson.encode({ created = false, id = other }) end
      return refuse('IDEMPOTENCY_CONFLICT', { id = other })
    end
  end
  -- A latch covers an execution as a whole, or every one of its nodes; else the nodes it covers wait by themselves.
  local latches = ARGV[6] == '1' and engaged_latches()
  if not latches then return nil end
  local latch = latch_over_execution('latch', fields.labels)
  local kinds = cjson.decode(ARGV[8])
  for i = 1, latch and 0 or #kinds do
    latch = covering_latch(latches, { execution = EXE, pool = kinds[i].pool, labels = kinds[i].labels }, 'latch')
    if not latch then break end
  end
  return latch and refuse_latched(latch) or nil
end

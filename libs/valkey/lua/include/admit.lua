-- admit: whether an execution may be created now. Needs base, execution and latch, and the arguments that admitExecution and
-- commitExecution share:
-- ARGV    4 record fields as a JSON object of strings · 5 number of nodes · 6 start: 1 or 0 · 7 labels as a JSON array of
--         "k=v" · 8 JSON array of what its nodes are, without repetition: { pool, labels }; empty when they are too many kinds
local fields = cjson.decode(ARGV[4])
local idem = fields.idempotencyKey

-- The answer that ends the submit; nil when the execution may be created.
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
  -- Only a latch over the execution as a whole, or over every node, refuses the submit. Otherwise the covered nodes wait by
  -- themselves.
  local latch = ARGV[6] == '1' and latch_over_start(fields.labels, ARGV[8])
  return latch and refuse_latched(latch) or nil
end

-- latch: whether an engaged latch covers work that wants to start. Needs base. `latches` is the shard's own copy of all engaged
-- latches: { version, set = JSON array of Latch }. Most of the time there is none.
local function engaged_latches()
  local text = redis.call('HGET', key('latches'), 'set')
  if not text or text == '[]' then return nil end
  return cjson.decode(text)
end

local function meets(requires, labels)
  for _, requirement in ipairs(requires) do
    local value, op = labels[requirement.key], requirement.op
    local listed = false
    for _, wanted in ipairs(requirement.values or {}) do
      if wanted == value then listed = true end
    end
    if op == 'exists' and value == nil then return false end
    if op == 'absent' and value ~= nil then return false end
    if op == 'in' and not listed then return false end
    if op == 'notin' and listed then return false end
  end
  return true
end

-- facts = { execution, agent, worker, pool, labels }. A latch does not cover a fact that is absent.
local function covers(latch, facts)
  local scope = latch.scope
  if scope.type == 'all' then return true end
  if scope.type == 'pool' then return scope.pool == facts.pool end
  if scope.type == 'worker' then return scope.workerId == facts.worker end
  if scope.type == 'execution' then return scope.executionId == facts.execution end
  if scope.type == 'agent' then return scope.agentId == facts.agent end
  return facts.labels ~= nil and meets(latch.requires, facts.labels)
end

-- The first latch that covers the facts; `kind` narrows to latches or freezes.
local function covering_latch(latches, facts, kind)
  for _, latch in ipairs(latches) do
    if (not kind or latch.kind == kind) and covers(latch, facts) then return latch end
  end
  return nil
end

-- The first latch over the execution as a whole, of that kind or of any. A latch over some nodes keeps only those from
-- starting. Needs execution; `labels` as JSON when the execution's record does not exist yet.
local function latch_over_execution(kind, labels)
  local latches = engaged_latches()
  if not latches then return nil end
  return covering_latch(latches, { execution = EXE, labels = cjson.decode(labels or field('labels') or '{}') }, kind)
end

-- The first latch over the execution as a whole, else one over its nodes if each node has a latch: then nothing could start.
-- `kinds`: JSON array of the distinct { pool, labels } of its nodes; empty where they are unknown.
local function latch_over_start(labels, kinds)
  local latches = engaged_latches()
  if not latches then return nil end
  local latch = latch_over_execution('latch', labels)
  if latch then return latch end
  for _, kind in ipairs(cjson.decode(kinds)) do
    latch = covering_latch(latches, { execution = EXE, pool = kind.pool, labels = kind.labels }, 'latch')
    if not latch then return nil end
  end
  return latch
end

local function refuse_latched(latch)
  return refuse('LATCHED', { latchId = latch.id, kind = latch.kind, scope = latch.scope, by = latch.by, note = latch.note })
end

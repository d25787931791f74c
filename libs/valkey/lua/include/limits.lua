-- limits: a shard's copy of the fleet's limits, in `limits`: { version, set = JSON array of rules }. A rule is
-- { by, running?, perMinute? }. Needs base.
local function limit_rules()
  local copy = redis.call('HMGET', key('limits'), 'set', 'version')
  if not copy[1] or copy[1] == '[]' then return nil end
  return cjson.decode(copy[1]), copy[2]
end

-- The names that an attempt counts under: `fleet`, `pool=gpu`, `label.tenant=acme`; each once. A drill's own pool is never
-- limited. libs/contracts/src/limits.ts has the same rule.
local function limit_keys(rules, pool, labels)
  local names, seen = {}, {}
  if string.sub(pool, 1, 1) == '@' then return names end
  for _, rule in ipairs(rules) do
    local name
    if rule.by == 'fleet' then name = 'fleet'
    elseif rule.by == 'pool' then name = 'pool=' .. pool
    else
      local value = labels[string.sub(rule.by, 7)]
      name = value and rule.by .. '=' .. value
    end
    if name and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

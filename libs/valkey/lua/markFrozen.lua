-- markFrozen: stores that an agent's processes are frozen, or run again. The id of a freeze order is kept: only the receipts of such
-- orders are completed from the record. Fenced by owner and epoch. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 owner · 6 epoch · 7 frozen: 1 or 0 · 8 order id or ''
-- Returns { state } · refused: NOT_FOUND · STALE_EPOCH
-- Events  agent.frozen or agent.thawed
--!flags allow-oom
--!include base
--!include execution
--!include agent
-- The newest orders are kept.
local MOST_ORDERS = 100
local agent = read_agent(ARGV[4])
if not agent then return refuse('NOT_FOUND') end
if fenced(agent, ARGV[5], tonumber(ARGV[6])) then return refuse('STALE_EPOCH', describe_agent(agent)) end
local wanted = ARGV[7] == '1' or nil
local live = agent.state == 'spawning' or agent.state == 'running'
local changed = agent.frozen ~= wanted
local named = not wanted or ARGV[8] == ''
for _, id in ipairs(agent.frozenBy or {}) do named = named or id == ARGV[8] end
if live and (changed or not named) then
  local orders = wanted and agent.frozenBy or nil
  if not named then
    orders = orders or {}
    orders[#orders + 1] = ARGV[8]
    if #orders > MOST_ORDERS then table.remove(orders, 1) end
  end
  agent.frozen, agent.frozenBy = wanted, orders
  write_agent(agent)
  bump()
  if changed then
    emit({ type = wanted and 'agent.frozen' or 'agent.thawed', entity = 'agent', agentId = agent.id, nodeId = agent.nodeId,
      workerId = agent.owner, attempt = agent.attempt, from = agent.state, to = agent.state,
      data = ARGV[8] ~= '' and { orderId = ARGV[8] } or nil })
  end
end
return cjson.encode({ state = agent.state })

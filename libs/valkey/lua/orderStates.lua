-- orderStates: the states of some orders: a worker asks about those that it has seen and that may have ended. Reads only.
-- KEYS[1] the orders log
-- ARGV    1 control tag · 2 … order ids
-- Returns for each its state, or '' where there is no record; 'open' where it cannot be read,
--           since nothing says that it is over
--!flags allow-oom
--!include base
local states = {}
for i = 2, #ARGV do
  local state = redis.pcall('HGET', key('ord:' .. ARGV[i]), 'state')
  states[#states + 1] = type(state) == 'table' and 'open' or state or ''
end
return states

-- retry: the parts of an execution that a retry undoes before the execution goes on. Needs base and execution.

-- How many of a node's dependencies have no result yet.
local function missing_dependencies(id)
  local wanted = cjson.decode(redis.call('HGET', exe_key .. ':specs', id)).dependsOn
  local missing = 0
  -- unpack is bounded by Lua's stack, and a node may have 100,000 dependencies.
  for first = 1, #wanted, 1000 do
    for _, text in ipairs(redis.call('HMGET', nodes_key, unpack(wanted, first, math.min(first + 999, #wanted)))) do
      if not string.find(text, '"s":"completed"', 1, true) then missing = missing + 1 end
    end
  end
  return missing
end

-- Resets the next nodes in the order of the spec: each that is not completed is pending again, and its policy counts attempts
-- anew. Nodes without dependencies go to the todo list. Returns how many were looked at, and whether there are more.
local function reset_nodes(budget)
  local from = number_field('retrying')
  local ids = redis.call('LRANGE', exe_key .. ':order', int(from), int(from + budget - 1))
  for _, id in ipairs(ids) do
    local node = read_node(id)
    if node.s ~= 'completed' then
      node.e, node.r, node.b, node.w = nil, nil, node.a, nil
      -- An earlier signal was meant for the attempts that were stopped.
      redis.call('HDEL', said_key, 'k:' .. id)
      move_node(id, node, 'pending')
      local missing = missing_dependencies(id)
      redis.call('HSET', exe_key .. ':deps', id, missing)
      if missing == 0 then redis.call('RPUSH', todo_key, 'r' .. id) end
    end
  end
  local more = #ids == budget
  if more then redis.call('HSET', exe_key, 'retrying', int(from + #ids)) else redis.call('HDEL', exe_key, 'retrying') end
  return #ids, more
end

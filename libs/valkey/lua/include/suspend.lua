-- suspend: nodes that wait for a signal from outside (docs/suspend.md). Needs base and execution. In the `said` hash:
-- `w:<name>` are the nodes that wait for that signal (JSON array), `g:<name>` is a signal that no node waited for yet,
-- `k:<node>` is the signal that the node's attempts are given. `suspended` of the shard lists the waiting nodes by deadline.
local function suspended_member(node_id) return EXE .. '\t' .. node_id end

-- `payload`: JSON text. The node's policy counts attempts anew, since a wait is no failure.
local function wake_node(node_id, node, name, payload, entries)
  node.w, node.d = nil, nil
  redis.call('ZREM', key('suspended'), suspended_member(node_id))
  redis.call('HSET', said_key, 'k:' .. node_id, '{"name":' .. cjson.encode(name) .. ',"payload":' .. payload .. '}')
  make_ready(node_id, node, 0, entries)
end

-- `suspend` = { name, maxAgeMs }
local function suspend_node(node_id, node, suspend, entries)
  local name = suspend.name
  node.b = node.a
  node.w = { n = name, u = NOW + suspend.maxAgeMs }
  move_node(node_id, node, 'suspended', { attempt = node.a, data = { signal = name, untilAt = node.w.u } })
  redis.call('HDEL', said_key, 'k:' .. node_id)
  local early = redis.call('HGET', said_key, 'g:' .. name)
  if early then
    redis.call('HDEL', said_key, 'g:' .. name)
    return wake_node(node_id, node, name, early, entries)
  end
  local waiting = cjson.decode(redis.call('HGET', said_key, 'w:' .. name) or '[]')
  waiting[#waiting + 1] = node_id
  redis.call('HSET', said_key, 'w:' .. name, cjson.encode(waiting))
  redis.call('ZADD', key('suspended'), int(node.w.u), suspended_member(node_id))
end

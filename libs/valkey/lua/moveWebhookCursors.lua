-- moveWebhookCursors: moves the cursors of webhook endpoints in the stream of control events. A cursor moves only from the
-- position that the caller has read: an orchestrator that was suspended cannot move it back. Repeatable: a repeated call finds
-- the new position and changes nothing.
-- KEYS[1] the cursors
-- ARGV    1 control tag · 2 JSON: a list of [ endpoint, position read ('' = none), new position ]
-- Returns { moved = how many cursors are at their new positions now }
--!include base
local moved = 0
for _, move in ipairs(cjson.decode(ARGV[2])) do
  local held = redis.call('HGET', KEYS[1], move[1]) or ''
  if held == move[2] and held ~= move[3] then redis.call('HSET', KEYS[1], move[1], move[3]) end
  if held == move[2] or held == move[3] then moved = moved + 1 end
end
return cjson.encode({ moved = moved })

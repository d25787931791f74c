-- appendLog: appends lines to an agent's log. A long log keeps its first and its last lines. Repeatable by line number.
-- KEYS[1] the log, a stream; beside it `<log>:meta`, a hash: n (last line), what is kept of head and tail, and `about`
-- ARGV    1 JSON { headLines, headBytes, tailLines, tailBytes, ttlMs } · 2 JSON about the whole log, or ''
--         · then for each line: n, counting up from 1 · stream: stdout, stderr or end, with a + when no newline follows
--         · bytes of output before it · the line's bytes
-- Returns the number of the last line there is
local conf = cjson.decode(ARGV[1])
local meta = KEYS[1] .. ':meta'
local kept = redis.call('HMGET', meta, 'n', 'headLines', 'headBytes', 'headId', 'tailLines', 'tailBytes')
local last = tonumber(kept[1] or '0')
local head_lines, head_bytes, head_id = tonumber(kept[2] or '0'), tonumber(kept[3] or '0'), kept[4] or '-'
local tail_lines, tail_bytes = tonumber(kept[5] or '0'), tonumber(kept[6] or '0')
for i = 3, #ARGV, 4 do
  local n, size = tonumber(ARGV[i]), #ARGV[i + 3]
  if n > last then
    local id = redis.call('XADD', KEYS[1], '*', 'n', ARGV[i], 's', ARGV[i + 1], 'b', ARGV[i + 2], 'l', ARGV[i + 3])
    last = n
    if tail_lines == 0 and head_lines < conf.headLines and head_bytes + size <= conf.headBytes then
      head_lines, head_bytes, head_id = head_lines + 1, head_bytes + size, id
    elseif ARGV[i + 1] ~= 'end' then
      -- The end is not a line, and takes the place of no line.
      tail_lines, tail_bytes = tail_lines + 1, tail_bytes + size
    end
  end
end
-- The oldest lines after the head make room for the newest. The newest line stays, however long it is.
while tail_lines > conf.tailLines or (tail_bytes > conf.tailBytes and tail_lines > 1) do
  local gone = {}
  local after = head_id == '-' and '-' or '(' .. head_id
  for _, row in ipairs(redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 100)) do
    if tail_lines <= conf.tailLines and (tail_bytes <= conf.tailBytes or tail_lines <= 1) then break end
    gone[#gone + 1] = row[1]
    tail_lines, tail_bytes = tail_lines - 1, tail_bytes - #row[2][8]
  end
  if #gone == 0 then break end
  redis.call('XDEL', KEYS[1], unpack(gone))
end
-- The server allocates 4 KiB for a stream's first entries. A copy of a short stream takes only the memory that it needs.
if ARGV[#ARGV - 2] == 'end' and redis.call('XLEN', KEYS[1]) <= 200 then
  redis.call('COPY', KEYS[1], KEYS[1] .. ':copy', 'REPLACE')
  redis.call('RENAME', KEYS[1] .. ':copy', KEYS[1])
end
redis.call('HSET', meta, 'n', last, 'headLines', head_lines, 'headBytes', head_bytes, 'headId', head_id,
  'tailLines', tail_lines, 'tailBytes', tail_bytes)
if ARGV[2] ~= '' then redis.call('HSET', meta, 'about', ARGV[2]) end
redis.call('PEXPIRE', KEYS[1], conf.ttlMs)
redis.call('PEXPIRE', meta, conf.ttlMs)
return last

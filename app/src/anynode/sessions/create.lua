-- KEYS: session [, the one it replaces]   ARGV: idle ms, lifetime ms, format, sessions that a user may have, handle or
-- '' if it is nobody's, then field and text in turn   Returns when it was created, and how many sessions ended because
-- they were replaced, and because there were too many.
local key, replaced = KEYS[1], KEYS[2]
local created = now()
local expires = created + tonumber(ARGV[2])
-- first the index: a session that it doesn't know could not be ended; and before any DEL, so that a full Redis refuses
-- with nothing done yet
local index = index_by(key, ARGV[5])
if index then
  enter(index, key, expires)
end
redis.call('HSET', key, 'm:format', ARGV[3], 'm:created', created, 'm:expires', expires, 'm:version', 1)
for i = 6, #ARGV, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1])
end
slide(key, expires, 0, tonumber(ARGV[1]), 0)
local displaced = replaced and leave(replaced) or 0
local capped = 0
if index then
  local keys = living(index)
  local excess = #keys - tonumber(ARGV[4])
  for _, each in ipairs(keys) do
    if excess > capped and each ~= key then
      capped = capped + leave(each)
    end
  end
end
return { created, displaced, capped }

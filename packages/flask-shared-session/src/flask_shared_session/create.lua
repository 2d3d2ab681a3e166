-- KEYS: session [, the replaced session]   ARGV: idle ms, lifetime ms, format, limit of sessions per user, handle or ''
-- without a user, then pairs of field and text   Returns the creation time, the number of replaced sessions, and the
-- number of sessions that ended because of the limit.
local key, replaced = KEYS[1], KEYS[2]
local created = now()
local expires = created + tonumber(ARGV[2])
-- The index first: a session that isn't in it couldn't be ended. And before any DEL, so that a Redis without memory
-- refuses before anything has changed.
local index = index_by(key, ARGV[5])
if index then
  enter(index, key, expires)
end
redis.call('HSET', key, 'm:format', ARGV[3], 'm:created', created, 'm:expires', expires, 'm:version', 1)
for i = 6, #ARGV, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1])
end
slide(key, expires, 0, tonumber(ARGV[1]), 0)
local displaced = replaced and leave(replaced, 'moved') or 0
local capped = 0
if index then
  local limit = tonumber(ARGV[4])
  -- Sessions whose lifetime has ended leave the index here, a hundred at a time.
  for _, digest in ipairs(redis.call('ZRANGE', index, '-inf', created, 'BYSCORE', 'LIMIT', 0, 100)) do
    redis.call('ZREM', index, digest)
  end
  -- Only with more sessions than the limit are all of them read: that costs with their number.
  local keys = #redis.call('ZRANGE', index, limit, limit) > 0 and living(index) or {}
  local excess = #keys - limit
  for _, each in ipairs(keys) do
    if excess > capped and each ~= key then
      capped = capped + leave(each, 'ended')
    end
  end
end
return { created, displaced, capped }

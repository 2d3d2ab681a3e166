-- KEYS: session [, the key it had until now]   ARGV: idle ms, number of fields to delete, those, then field and text
-- in turn   Returns 1, or 0 if the session is gone.
-- Both keys hash to one cluster slot: ids.py makes the new id so.
local key, previous = KEYS[1], KEYS[2]
local expires, seen = times(previous or key)
if not expires then
  return 0
end
if previous then
  local index = index_of(previous)
  if index then
    enter(index, key, expires)
    redis.call('ZREM', index, digest_of(previous))
  end
  redis.call('RENAME', previous, key)
end
local first_text = 3 + tonumber(ARGV[2])
for i = 3, first_text - 1 do
  redis.call('HDEL', key, ARGV[i])
end
for i = first_text, #ARGV, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1])
end
redis.call('HINCRBY', key, 'm:version', 1)
slide(key, expires, seen, tonumber(ARGV[1]), 0)
return 1

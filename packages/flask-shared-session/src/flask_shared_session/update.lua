-- KEYS: session [, its previous key]   ARGV: idle ms, number of fields to delete, these fields, then pairs of field and
-- text   Returns 1, or 0 if the session doesn't exist.
-- Both keys have the same cluster slot: ids.py creates the new id accordingly.
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
  mark(previous, 'moved')
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

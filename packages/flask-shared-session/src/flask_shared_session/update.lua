-- KEYS: session [, its previous key]   ARGV: idle ms, number of fields to delete, these fields, number of fields with a
-- list to extend, pairs of these fields and the JSON text of a list, then pairs of field and text
-- Returns 1, or 0 if the session doesn't exist.
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
local after_deleted = 3 + tonumber(ARGV[2])
for i = 3, after_deleted - 1 do
  redis.call('HDEL', key, ARGV[i])
end
local first_text = after_deleted + 1 + 2 * tonumber(ARGV[after_deleted])
for i = after_deleted + 1, first_text - 1, 2 do
  local current, added = redis.call('HGET', key, ARGV[i]), ARGV[i + 1]
  if current and #current > 2 then -- more than []: join the texts of the lists
    added = string.sub(current, 1, -2) .. ',' .. string.sub(added, 2)
  end
  redis.call('HSET', key, ARGV[i], added)
end
for i = first_text, #ARGV, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1])
end
redis.call('HINCRBY', key, 'm:version', 1)
slide(key, expires, seen, tonumber(ARGV[1]), 0)
return 1

-- KEYS: session   ARGV: idle ms, field, increment   Returns the new value, or nil if the session doesn't exist.
local expires, seen = times(KEYS[1])
if not expires then
  return false
end
local value = redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'm:version', 1)
slide(KEYS[1], expires, seen, tonumber(ARGV[1]), 0)
return value

-- KEYS: session   ARGV: idle ms, field, by   Returns the new value, or nil if the session is gone.
local expires = absolute_expiry(KEYS[1])
if not expires then
  return false
end
local value = redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'm:version', 1)
slide(KEYS[1], expires, tonumber(ARGV[1]), 0)
return value

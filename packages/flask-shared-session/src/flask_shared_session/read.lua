-- KEYS: session   ARGV: idle ms, slack ms   Returns all fields, none if the session doesn't exist.
local expires, seen = times(KEYS[1])
if expires then
  slide(KEYS[1], expires, seen, tonumber(ARGV[1]), tonumber(ARGV[2]))
end
return redis.call('HGETALL', KEYS[1])

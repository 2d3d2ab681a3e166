-- KEYS: session   ARGV: idle ms, slack ms   Returns all fields, none if the session doesn't exist.
local expires, seen = times(KEYS[1])
if expires and slide(KEYS[1], expires, seen, tonumber(ARGV[1]), tonumber(ARGV[2])) then
  -- A Redis that evicts keys may have dropped the index before the session.
  local index = index_of(KEYS[1])
  if index then
    enter(index, KEYS[1], expires)
  end
end
return redis.call('HGETALL', KEYS[1])

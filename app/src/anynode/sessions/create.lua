-- KEYS: session [, the one it replaces]   ARGV: idle ms, lifetime ms, format, then field and text in turn
-- Returns when it was created.
local created = now()
local expires = created + tonumber(ARGV[2])
if KEYS[2] then
  redis.call('DEL', KEYS[2])
end
redis.call('HSET', KEYS[1], 'm:format', ARGV[3], 'm:created', created, 'm:expires', expires, 'm:version', 1)
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
slide(KEYS[1], expires, tonumber(ARGV[1]), 0)
return created

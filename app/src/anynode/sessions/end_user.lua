-- KEYS: a user's index   ARGV: 'only' or 'but', a handle   Ends the session with this handle, or all but that one.
-- Returns how many.
local ended = 0
for _, key in ipairs(living(checked(KEYS[1]))) do
  local is_it = redis.pcall('HGET', key, 'm:handle') == ARGV[2]
  if is_it == (ARGV[1] == 'only') then
    leave(key)
    ended = ended + 1
  end
end
return ended

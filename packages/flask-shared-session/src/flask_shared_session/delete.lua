-- KEYS: session   ARGV: its handle, or '' if unknown; 'ended' or 'moved'   Returns the number of ended sessions, 1 or 0.
-- A session that got another id meanwhile is found by its handle.
local ended = leave(KEYS[1], ARGV[2])
if ended == 0 then
  local index = index_by(KEYS[1], ARGV[1])
  if index then
    ended = end_by_handle(index, ARGV[1], true)
  end
end
return ended

-- KEYS: session   ARGV: its handle, or '' if unknown; 'ended' or 'moved'; the number of replicas to wait for
-- Returns the number of ended sessions, 1 or 0.
-- A session that got another id meanwhile is found by its handle.
local ended = leave(KEYS[1], ARGV[2])
if ended == 0 then
  local index = index_by(KEYS[1], ARGV[1])
  if index then
    ended = end_by_handle(index, ARGV[1], true)
  end
end
if tonumber(ARGV[3]) > 0 then
  write_anyway(KEYS[1])
end
return ended

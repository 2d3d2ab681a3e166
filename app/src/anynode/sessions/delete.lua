-- KEYS: session   ARGV: its handle, or '' if that isn't known
-- A session that was moved to another id meanwhile is found by its handle.
if leave(KEYS[1]) == 0 then
  local index = index_by(KEYS[1], ARGV[1])
  if index then
    end_by_handle(index, ARGV[1], true)
  end
end

-- KEYS: a user's index   ARGV: 'only' or 'but', a handle, the number of replicas to wait for
-- Ends the session with this handle, or all other sessions. Returns the number of ended sessions.
if tonumber(ARGV[3]) > 0 then
  write_anyway(KEYS[1])
end
return end_by_handle(checked(KEYS[1]), ARGV[2], ARGV[1] == 'only')

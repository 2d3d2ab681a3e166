-- KEYS: a user's index   ARGV: 'only' or 'but', a handle   Ends the session with this handle, or all other sessions.
-- Returns the number of ended sessions.
return end_by_handle(checked(KEYS[1]), ARGV[2], ARGV[1] == 'only')

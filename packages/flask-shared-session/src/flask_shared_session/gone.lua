-- KEYS: session   Returns 'moved' or 'ended' if it has gone within the last minute and has not expired, else nil.
return redis.call('HGET', mark_of(KEYS[1]), 'kind')

-- KEYS: session
leave(KEYS[1])

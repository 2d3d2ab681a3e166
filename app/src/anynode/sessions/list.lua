-- KEYS: a user's index   Returns handle, created, seen, address, agent and node of each session.
local found = {}
for _, key in ipairs(living(checked(KEYS[1]))) do
  local texts = redis.pcall('HMGET', key, 'm:handle', 'm:created', 'm:seen', 'm:address', 'm:agent', 'm:node')
  if not texts.err then -- a foreign value
    found[#found + 1] = texts
  end
end
return found

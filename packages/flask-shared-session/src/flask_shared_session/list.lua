-- KEYS: a user's index   Returns handle, creation time, last use, address, agent and node of each session.
local found = {}
for _, key in ipairs(living(checked(KEYS[1]))) do
  local texts = redis.pcall('HMGET', key, 'm:handle', 'm:created', 'm:seen', 'm:address', 'm:agent', 'm:node')
  if not texts.err then -- another application wrote the key
    found[#found + 1] = texts
  end
end
return found

-- Put in front of every script. Fields of a session's hash: m:format, m:created, m:expires (absolute; both in
-- milliseconds by this server's clock), m:version (counts writes), and s:<key> with the JSON text of a session value.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- When the session must end whatever happens, or nil if there is none.
local function absolute_expiry(key)
  local text = redis.call('HGET', key, 'm:expires')
  return text and tonumber(string.match(text, '^%d+$'))
end

-- Let the session live for another `idle` ms, but not past its absolute expiry. Skipped while the expiry that is set
-- falls short of that by no more than `slack` ms, so that a read seldom writes.
local function slide(key, expires, idle, slack)
  local life = math.min(idle, expires - now())
  local remaining = redis.call('PTTL', key)
  if remaining < 0 or life - remaining > slack then
    redis.call('PEXPIRE', key, life)
  end
end

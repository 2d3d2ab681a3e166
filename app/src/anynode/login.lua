#!lua
-- A login attempt: 'begin', then 'wrong', 'right', or 'withdrawn' if the process was too busy. An attempt without a
-- second step expires after its lease.
-- KEYS: the attempts of a client on an account; for clients without a device cookie also the attempts from the address,
-- and the failed attempts on the account. Each is a sorted set, scored by expiry (ms by this server's clock).
-- ARGV: step, name of the attempt, window ms, lease ms, pause ms, then the limit of each key.
-- Returns 0; 'begin' may also return a wait in ms, or -1 to retry soon: the result depends on attempts in progress.
local step, attempt = ARGV[1], ARGV[2]
local window, lease, pause = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local client, address, account = KEYS[1], KEYS[2], KEYS[3]
local UNDER_WAY, FIRST_REFUSAL = 'under way:', 'asked'

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function limit_of(number)
  return tonumber(ARGV[5 + number])
end

local function note(key, name, life)
  redis.call('ZADD', key, now + life, name)
  redis.call('PEXPIRE', key, window + pause)
end

-- Removes expired attempts. Returns the expiry of each remaining attempt in order, whether any attempt is in progress,
-- and the time of the last attempt.
local function attempts(key)
  local dues, is_under_way, last = {}, false, nil
  local entries = redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES')
  if entries.err then -- another application wrote the key
    redis.call('DEL', key)
    entries = {}
  end
  for i = 1, #entries, 2 do
    local name, due = entries[i], tonumber(entries[i + 1])
    if due <= now then
      redis.call('ZREM', key, name)
    elseif name == FIRST_REFUSAL then
      last = math.max(last or 0, due - window - pause)
    else
      dues[#dues + 1] = due
      if string.sub(name, 1, #UNDER_WAY) == UNDER_WAY then
        is_under_way = true
      else
        last = math.max(last or 0, due - window)
      end
    end
  end
  return dues, is_under_way, last
end

local function wait_for(dues, is_under_way, limit)
  if #dues < limit then
    return 0
  end
  return is_under_way and -1 or dues[#dues - limit + 1] - now
end

if step == 'begin' then
  local dues, is_under_way, last = attempts(client)
  local wait = wait_for(dues, is_under_way, limit_of(1))
  if wait == 0 and address then
    dues, is_under_way = attempts(address)
    wait = wait_for(dues, is_under_way, limit_of(2))
  end
  if wait ~= 0 then
    return wait
  end
  if account and #attempts(account) >= limit_of(3) then
    if not last then
      note(client, FIRST_REFUSAL, window + pause)
      return pause
    elseif last + pause > now then
      return last + pause - now
    end
  end
  note(client, UNDER_WAY .. attempt, lease)
  if address then
    note(address, UNDER_WAY .. attempt, lease)
  end
elseif step == 'wrong' then
  for _, key in ipairs(KEYS) do
    redis.call('ZREM', key, UNDER_WAY .. attempt)
    note(key, attempt, window)
  end
  if account then
    local dues = attempts(account)
    if #dues > limit_of(3) then -- more entries would change nothing
      redis.call('ZREM', account, redis.call('ZRANGE', account, 0, 0)[1])
    end
  end
else -- 'right': the client's failed attempts were no attack, remove all; 'withdrawn': remove this attempt only
  local names = step == 'right' and redis.call('ZRANGE', client, 0, -1) or {}
  names[#names + 1] = UNDER_WAY .. attempt
  for _, key in ipairs(KEYS) do
    redis.call('ZREM', key, unpack(names))
  end
end
return 0

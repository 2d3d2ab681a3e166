#!lua
-- A try to log in: 'begin', and then 'wrong', 'right', or 'withdrawn' if nobody had time for it. One that isn't heard of
-- again is forgotten after its lease.
-- KEYS: the tries of a client at an account; unless the client is a known browser, those from its address, too, and the
-- failed ones at the account. Each is a sorted set of tries, scored by when each is forgotten (ms by this server's clock).
-- ARGV: the step, the try's name, window ms, lease ms, pause ms, then for each key so many that it may hold.
-- Returns 0; 'begin' may also return how many ms to wait, or -1: ask again soon, it depends on tries that are under way.
local step, try = ARGV[1], ARGV[2]
local window, lease, pause = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local client, address, account = KEYS[1], KEYS[2], KEYS[3]
local UNDER_WAY, ASKED = 'under way:', 'asked'

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function most(number)
  return tonumber(ARGV[5 + number])
end

local function note(key, name, life)
  redis.call('ZADD', key, now + life, name)
  redis.call('PEXPIRE', key, window + pause)
end

-- Forgets what is due. Returns when each of the others is, in order; whether one is under way; when the last one was.
local function tries(key)
  local dues, is_under_way, last = {}, false, nil
  local entries = redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES')
  if entries.err then -- a foreign value
    redis.call('DEL', key)
    entries = {}
  end
  for i = 1, #entries, 2 do
    local name, due = entries[i], tonumber(entries[i + 1])
    if due <= now then
      redis.call('ZREM', key, name)
    elseif name == ASKED then
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
  local dues, is_under_way, last = tries(client)
  local wait = wait_for(dues, is_under_way, most(1))
  if wait == 0 and address then
    dues, is_under_way = tries(address)
    wait = wait_for(dues, is_under_way, most(2))
  end
  if wait ~= 0 then
    return wait
  end
  if account and #tries(account) >= most(3) then
    if not last then
      note(client, ASKED, window + pause)
      return pause
    elseif last + pause > now then
      return last + pause - now
    end
  end
  note(client, UNDER_WAY .. try, lease)
  if address then
    note(address, UNDER_WAY .. try, lease)
  end
elseif step == 'wrong' then
  for _, key in ipairs(KEYS) do
    redis.call('ZREM', key, UNDER_WAY .. try)
    note(key, try, window)
  end
  if account then
    local dues = tries(account)
    if #dues > most(3) then -- more of them would change nothing
      redis.call('ZREM', account, redis.call('ZRANGE', account, 0, 0)[1])
    end
  end
else -- 'right': what this client had got wrong was no attack, this try included; 'withdrawn': this try was none
  local names = step == 'right' and redis.call('ZRANGE', client, 0, -1) or {}
  names[#names + 1] = UNDER_WAY .. try
  for _, key in ipairs(KEYS) do
    redis.call('ZREM', key, unpack(names))
  end
end
return 0

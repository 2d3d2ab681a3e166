-- Put in front of every script. Fields of a session's hash: m:format, m:created, m:expires (absolute), m:seen (all in
-- milliseconds by this server's clock), m:version (counts writes), s:<key> with the JSON text of a session value; and
-- of a user's session m:user, m:handle, m:address, m:agent, m:node.
-- A user's index is a sorted set: the digest of each of the user's sessions, scored by absolute expiry. ids.py names
-- things so that it lies in the cluster slot of these sessions. So scripts may touch the keys of one slot that they
-- find in Redis, though KEYS can't name them without a read before.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(text)
  return text and tonumber(string.match(text, '^%d+$'))
end

-- When the session must end whatever happens, or nil if there is none; and when it was last seen.
local function times(key)
  local texts = redis.call('HMGET', key, 'm:expires', 'm:seen')
  return whole(texts[1]), whole(texts[2]) or 0
end

-- Note that the session was seen, and let it live for another `idle` ms, but not past its absolute expiry. Skipped
-- while both are no more than `slack` ms behind, so that a read seldom writes.
local function slide(key, expires, seen, idle, slack)
  local moment = now()
  local life = math.min(idle, expires - moment)
  local remaining = redis.call('PTTL', key)
  if remaining < 0 or life - remaining > slack or moment - seen > slack then
    redis.call('HSET', key, 'm:seen', moment)
    redis.call('PEXPIRE', key, life)
  end
end

local function digest_of(key)
  return string.sub(key, -64)
end

-- The same index, after dropping what is there if it isn't one.
local function checked(index)
  local kind = redis.call('TYPE', index).ok
  if kind ~= 'zset' and kind ~= 'none' then
    redis.call('DEL', index)
  end
  return index
end

-- The index that a session's handle begins with the name of; nil if it isn't a handle, as nobody's session has none.
local function index_by(key, handle)
  if type(handle) ~= 'string' or #handle ~= 30 or string.find(handle, '[^%w_-]') then
    return nil
  end
  local prefix, slot = string.match(key, '^(.*)session:({..})')
  return checked(prefix .. 'user:' .. slot .. string.sub(handle, 1, 22))
end

local function index_of(key)
  return index_by(key, redis.pcall('HGET', key, 'm:handle')) -- an error if a foreign value is there
end

-- Add a session to an index, which lives as long as the last one in it may.
local function enter(index, key, expires)
  redis.call('ZADD', index, expires, digest_of(key))
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', index, tonumber(last) - now())
end

-- End a session. Returns 1, or 0 if there was none.
local function leave(key)
  local index = index_of(key)
  if index then
    redis.call('ZREM', index, digest_of(key))
  end
  return redis.call('DEL', key)
end

-- The keys of the sessions in an index, oldest first; those that have idled out are dropped from it.
local function living(index)
  local prefix, slot = string.match(index, '^(.*)user:({..})')
  local keys = {}
  for _, digest in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local key = prefix .. 'session:' .. slot .. digest
    if redis.call('EXISTS', key) == 1 then
      keys[#keys + 1] = key
    else
      redis.call('ZREM', index, digest)
    end
  end
  return keys
end

-- End the session in an index that has this handle, or all that don't. Returns how many.
local function end_by_handle(index, handle, has_it)
  local ended = 0
  for _, key in ipairs(living(index)) do
    if (redis.pcall('HGET', key, 'm:handle') == handle) == has_it then -- an error if a foreign value is there
      ended = ended + leave(key)
    end
  end
  return ended
end

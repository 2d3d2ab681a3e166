-- Prepended to every script. Fields of a session's hash: m:format, m:created, m:expires (absolute), m:seen (all in
-- milliseconds by this server's clock), m:version (number of writes), s:<key> with the JSON text of a session value; for
-- the session of a user also m:user, m:handle, m:address, m:agent, m:node.
-- A user's index is a sorted set: the digest of each session of the user, scored by absolute expiry. By the names in
-- ids.py it has the same cluster slot as these sessions. So scripts may access keys that they find in the index,
-- although KEYS can't list them without an additional read.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(text)
  return text and tonumber(string.match(text, '^%d+$'))
end

-- Returns the absolute expiry of a session, nil if it doesn't exist, and the time of its last use.
local function times(key)
  local texts = redis.call('HMGET', key, 'm:expires', 'm:seen')
  return whole(texts[1]), whole(texts[2]) or 0
end

-- Update the time of last use, and extend the session by `idle` ms, but not beyond its absolute expiry. Skipped while
-- both lag by at most `slack` ms, so that reads rarely write. They may also be in the future, after a step of the clock.
-- Returns whether it wrote.
local function slide(key, expires, seen, idle, slack)
  local moment = now()
  local life = math.min(idle, expires - moment)
  local remaining = redis.call('PTTL', key)
  if remaining >= 0 and math.abs(life - remaining) <= slack and math.abs(moment - seen) <= slack then
    return false
  end
  redis.call('HSET', key, 'm:seen', moment)
  redis.call('PEXPIRE', key, life)
  return true
end

local function digest_of(key)
  return string.sub(key, -64)
end

-- Return the index, after deleting any value there that isn't a sorted set.
local function checked(index)
  local kind = redis.call('TYPE', index).ok
  if kind ~= 'zset' and kind ~= 'none' then
    redis.call('DEL', index)
  end
  return index
end

-- Return the index named at the start of a session's handle; nil without a valid handle (session without a user).
local function index_by(key, handle)
  if type(handle) ~= 'string' or #handle ~= 30 or string.find(handle, '[^%w_-]') then
    return nil
  end
  local prefix, slot = string.match(key, '^(.*)session:({..})')
  return checked(prefix .. 'user:' .. slot .. string.sub(handle, 1, 22))
end

local function index_of(key)
  return index_by(key, redis.pcall('HGET', key, 'm:handle')) -- an error if another application wrote the key
end

-- Add a session to an index, which expires together with its longest-lived session.
local function enter(index, key, expires)
  redis.call('ZADD', index, expires, digest_of(key))
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', index, tonumber(last) - now())
end

-- A mark beside the key of a session that is gone, for the requests that set out with its id: 'moved' if another id
-- replaced it, 'ended' otherwise. An expired session leaves no mark.
local function mark_of(key)
  local prefix, rest = string.match(key, '^(.*)session:({..}.*)$')
  if not prefix then -- the index of a user
    prefix, rest = string.match(key, '^(.*)user:({..}.*)$')
  end
  return prefix .. 'gone:' .. rest
end

local function mark(key, kind)
  redis.call('HSET', mark_of(key), 'kind', kind)
  redis.call('PEXPIRE', mark_of(key), 60000)
end

-- Write in any case. A repeated logout deletes nothing, and WAIT after a script that wrote nothing reports replicas that
-- lack the deletion of the first attempt.
local function write_anyway(key)
  redis.call('HSET', mark_of(key), 'written', 1)
  redis.call('PEXPIRE', mark_of(key), 60000)
end

-- End a session. Returns 1, or 0 if it didn't exist.
local function leave(key, kind)
  local index = index_of(key)
  if index then
    redis.call('ZREM', index, digest_of(key))
  end
  local ended = redis.call('DEL', key)
  if ended == 1 then
    mark(key, kind)
  end
  return ended
end

-- Return the keys of the sessions in an index, oldest first, and remove expired sessions from it.
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

-- End the session in an index that has this handle, or all sessions with other handles. Returns their number.
local function end_by_handle(index, handle, has_it)
  local ended = 0
  for _, key in ipairs(living(index)) do
    if (redis.pcall('HGET', key, 'm:handle') == handle) == has_it then -- an error if another application wrote the key
      ended = ended + leave(key, 'ended')
    end
  end
  return ended
end

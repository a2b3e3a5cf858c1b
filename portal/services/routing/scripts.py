"""The line in the shared store: what every worker of every host asks, and what is true for all of them at once.

    line:busy:<server>    leases: request → when it ends unless its worker renews it (ms)
    line:wait:<pool>      those who wait for any server of a pool: request → score, the lowest first
    line:alive            those who wait → until when their worker is believed to live
    line:pools            the pools in which somebody waits
    line:slots            server → how many it answers at once
    line:health:<server>  faults in a row and whose, until when it rests, how often it rested; nothing while it is well
    line:trial:<server>   after a rest: the one request that tries it
    line:pace             server → how long a request keeps a slot, on average (ms)

A pool is the names of the servers that can answer a request, parted by commas. The score is the arrival less what the
plan's priority is worth: so priority goes first, and whoever has waited longer than that is overtaken by nobody.
All times are the store's own. A request is `<id>:<worker>`; the worker's channel is `line:<worker>`.
"""

from portal.pipeline import Script

LINE = """
local function line_now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- How many more a server may get now; and until when it rests or rested (0: it is well).
local function room(now, server)
  local rest = tonumber(redis.call('HGET', 'line:health:' .. server, 'until') or '0')
  local busy = 'line:busy:' .. server
  -- Of a server at rest, too: a dead worker's requests would else be counted in its depth for as long as it rests.
  redis.call('ZREMRANGEBYSCORE', busy, '-inf', now)
  if rest > now then return 0, rest end
  local free = tonumber(redis.call('HGET', 'line:slots', server) or '1') - redis.call('ZCARD', busy)
  if rest > 0 then
    local trial = redis.call('GET', 'line:trial:' .. server)
    if trial and redis.call('ZSCORE', busy, trial) then return 0, rest end
    free = math.min(free, 1)
  end
  return free, rest
end

-- Returns 1 where this request is the trial after a rest.
local function lease(ends, server, member, rest)
  redis.call('ZADD', 'line:busy:' .. server, ends, member)
  if rest == 0 then return 0 end
  redis.call('SET', 'line:trial:' .. server, member, 'PX', 86400000)
  return 1
end

local function has(pool, server)
  return string.find(',' .. pool .. ',', ',' .. server .. ',', 1, true) ~= nil
end

local function step_out(pool, member)
  redis.call('ZREM', 'line:alive', member)
  if redis.call('ZREM', 'line:wait:' .. pool, member) == 1 and redis.call('ZCARD', 'line:wait:' .. pool) == 0 then
    redis.call('SREM', 'line:pools', pool)
  end
end

-- Those whose worker died while they waited.
local function bury(now)
  local dead = redis.call('ZRANGEBYSCORE', 'line:alive', '-inf', now)
  if #dead == 0 then return end
  for _, pool in ipairs(redis.call('SMEMBERS', 'line:pools')) do
    for _, member in ipairs(dead) do step_out(pool, member) end
  end
end

-- Gives a server's free slots to those who wait for it, the first first. The lease ends with the worker's last sign of
-- life until it renews it: as a new one, each turn given to a dead worker's customers kept a slot for that much longer.
local function serve(now, server, ms)
  local free, rest = room(now, server)
  while free > 0 do
    local first, score, pool
    for _, candidate in ipairs(redis.call('SMEMBERS', 'line:pools')) do
      if has(candidate, server) then
        local head = redis.call('ZRANGE', 'line:wait:' .. candidate, 0, 0, 'WITHSCORES')
        local theirs = tonumber(head[2])
        if not theirs then
          redis.call('SREM', 'line:pools', candidate)
        elseif not first or theirs < score or (theirs == score and head[1] < first) then
          first, score, pool = head[1], theirs, candidate
        end
      end
    end
    if not first then return end
    local alive = tonumber(redis.call('ZSCORE', 'line:alive', first) or now + ms)
    step_out(pool, first)
    local trial = lease(math.min(now + ms, alive), server, first, rest)
    redis.call('PUBLISH', 'line:' .. string.sub(first, 34), first .. ' ' .. server .. ' ' .. trial)
    free, rest = room(now, server)
  end
end

-- How long somebody waits who has so many ahead of them; 0 while nobody knows.
local function expected(ahead, servers)
  local slots, pace, known = 0, 0, 0
  for _, server in ipairs(servers) do
    slots = slots + tonumber(redis.call('HGET', 'line:slots', server) or '1')
    local its = tonumber(redis.call('HGET', 'line:pace', server) or '0')
    if its > 0 then pace, known = pace + its, known + 1 end
  end
  if known == 0 then return 0 end
  return math.ceil(ahead * pace / known / slots)
end

-- How many wait for any of these servers, and how many of them come before somebody who waits, or would.
local function queue(servers, score, own, member)
  local waiting, ahead = 0, 0
  for _, pool in ipairs(redis.call('SMEMBERS', 'line:pools')) do
    for _, server in ipairs(servers) do
      if has(pool, server) then
        waiting = waiting + redis.call('ZCARD', 'line:wait:' .. pool)
        local rank = pool == own and redis.call('ZRANK', 'line:wait:' .. pool, member)
        if not rank then
          rank = redis.call('ZCOUNT', 'line:wait:' .. pool, '-inf', '(' .. string.format('%.0f', score))
        end
        ahead = ahead + rank
        break
      end
    end
  end
  return waiting, ahead
end

local function know(server, slots)
  if redis.call('HGET', 'line:slots', server) ~= slots then redis.call('HSET', 'line:slots', server, slots) end
end

-- a: member, pool, bonus ms, depth beyond which it says so (-1: never), most that may be ahead, lease ms, arrival
-- (0: now); then server, slots, weight of each server.
local function enter(a)
  local now = line_now()
  local member, pool, ms = a[1], a[2], tonumber(a[6])
  local somebody_waits = redis.call('EXISTS', 'line:pools') == 1
  if somebody_waits then bury(now) end
  local servers, best, least, its_rest, soonest = {}, nil, nil, 0, nil
  local awake, in_flight, count = false, 0, (#a - 7) / 3
  local first = now % count
  for step = 0, count - 1 do
    local at = 8 + ((first + step) % count) * 3
    local server, slots = a[at], a[at + 1]
    servers[#servers + 1] = server
    know(server, slots)
    if somebody_waits then serve(now, server, ms) end
    local free, rest = room(now, server)
    local busy = redis.call('ZCARD', 'line:busy:' .. server)
    in_flight = in_flight + busy
    if rest <= now then awake = true elseif not soonest or rest < soonest then soonest = rest end
    if free > 0 then
      local load = busy / (tonumber(slots) * tonumber(a[at + 2]))
      if not best or load < least then best, least, its_rest = server, load, rest end
    end
  end
  if best then return {'at', best, lease(now + ms, best, member, its_rest)} end
  if not awake then return {'rest', soonest - now} end
  local arrival = tonumber(a[7])
  local score = (arrival > 0 and arrival or now) - tonumber(a[3])
  -- Whoever came in the same millisecond is there before: a burst would else find room for all of them at once.
  local waiting, before = queue(servers, score + 1, '', '')
  local limit = tonumber(a[4])
  if limit >= 0 and in_flight + waiting + 1 > limit then return {'over', in_flight + waiting} end
  -- Who goes ahead of most finds room where others don't: five small accounts could else shut all others out.
  if before >= tonumber(a[5]) then return {'full', before, expected(before, servers)} end
  redis.call('ZADD', 'line:wait:' .. pool, score, member)
  redis.call('ZADD', 'line:alive', now + ms, member)
  redis.call('SADD', 'line:pools', pool)
  local _, ahead = queue(servers, score, pool, member)
  return {'wait', ahead + 1, expected(ahead + 1, servers), string.format('%.0f', score)}
end
"""

ENTER = Script(LINE + "return enter(ARGV)")

LEAVE = Script(
    LINE
    + """
-- member, server, verdict (ok, fault, none), ms it kept the slot, lease ms, faults that make it rest, shortest rest ms,
-- longest rest ms, whose request it was, faults that make it rest where all are of one account.
-- Returns 0, or 1 and for how long it rests now, or 2: it is well again.
local member, server, verdict, ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now, health, told = line_now(), 'line:health:' .. server, {0, 0}
local held = redis.call('ZREM', 'line:busy:' .. server, member)
if verdict == 'ok' then
  -- While it rests, what ends well had begun before: the account that is refused now still had its answers running.
  local rest = tonumber(redis.call('HGET', health, 'until') or '0')
  if rest <= now and redis.call('EXISTS', health) == 1 then
    if rest > 0 then told = {2, 0} end
    redis.call('DEL', health, 'line:trial:' .. server)
  end
  local pace = tonumber(redis.call('HGET', 'line:pace', server) or ms)
  redis.call('HSET', 'line:pace', server, string.format('%.0f', pace * 0.9 + ms * 0.1))
elseif verdict == 'fault' then
  local faults = redis.call('HINCRBY', health, 'faults', 1)
  local rest = tonumber(redis.call('HGET', health, 'until') or '0')
  local before = redis.call('HGET', health, 'account')
  redis.call('HSET', health, 'account', ARGV[9])
  if before and before ~= ARGV[9] then redis.call('HSET', health, 'several', 1) end
  local several = redis.call('HEXISTS', health, 'several') == 1
  local told_by_enough = several or ARGV[10] == ARGV[6]
  local enough = faults >= tonumber(ARGV[10]) or told_by_enough and (rest > 0 or faults >= tonumber(ARGV[6]))
  -- While it rests, what ends now had begun before and tells nothing new; after the rest one fault is enough.
  if rest <= now and enough then
    local rests = redis.call('HINCRBY', health, 'rests', 1)
    local long = math.min(tonumber(ARGV[7]) * 2 ^ (rests - 1), tonumber(ARGV[8]))
    redis.call('HSET', health, 'until', string.format('%.0f', now + long))
    redis.call('HDEL', health, 'several')
    redis.call('HSET', health, 'faults', 0)
    redis.call('DEL', 'line:trial:' .. server)
    told = {1, long}
  end
  redis.call('PEXPIRE', health, 86400000)
end
if held == 1 and redis.call('EXISTS', 'line:pools') == 1 then
  bury(now)
  serve(now, server, tonumber(ARGV[5]))
end
return told
"""
)

WELL = Script(
    LINE
    + """
-- server, lease ms: the trial after its rest has begun to be answered. Returns 2 where it had rested, as LEAVE does.
local now, health, told = line_now(), 'line:health:' .. ARGV[1], {0, 0}
if redis.call('HEXISTS', health, 'until') == 1 then told = {2, 0} end
redis.call('DEL', health, 'line:trial:' .. ARGV[1])
-- The slots beside the trial's are free from now on, not from the next renewal on.
if redis.call('EXISTS', 'line:pools') == 1 then
  bury(now)
  serve(now, ARGV[1], tonumber(ARGV[2]))
end
return told
"""
)

STEP_OUT = Script(
    LINE
    + """
-- member, pool, lease ms, then the servers of the pool: it may have got a slot of one a moment ago.
local now = line_now()
step_out(ARGV[2], ARGV[1])
bury(now)
for i = 4, #ARGV do
  if redis.call('ZREM', 'line:busy:' .. ARGV[i], ARGV[1]) == 1 then serve(now, ARGV[i], tonumber(ARGV[3])) end
end
return 0
"""
)

RENEW = Script(
    LINE
    + """
-- lease ms, how many servers are told, how many leases; then server, slots of each server; member, server of each
-- lease; member, pool, score of each who waits. Returns for each who waits its server, trial, 0, or '', place, wait.
-- Whatever the store has forgotten is put back.
local now, ms, told, leases = line_now(), tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at = 4
for _ = 1, told do know(ARGV[at], ARGV[at + 1]) at = at + 2 end
for _ = 1, leases do
  redis.call('ZADD', 'line:busy:' .. ARGV[at + 1], now + ms, ARGV[at])
  at = at + 2
end
local waiters, touched = at, {}
for i = waiters, #ARGV, 3 do
  local member, pool, granted = ARGV[i], ARGV[i + 1], false
  for server in string.gmatch(pool, '[^,]+') do
    touched[server] = true
    if redis.call('ZSCORE', 'line:busy:' .. server, member) then
      -- Kept alive before the next look at the server, which would find it ended: then it had neither slot nor place.
      redis.call('ZADD', 'line:busy:' .. server, now + ms, member)
      granted = true
    end
  end
  if not granted then
    redis.call('ZADD', 'line:wait:' .. pool, ARGV[i + 2], member)
    redis.call('ZADD', 'line:alive', now + ms, member)
    redis.call('SADD', 'line:pools', pool)
  end
end
if redis.call('EXISTS', 'line:pools') == 1 then bury(now) end
for server in pairs(touched) do serve(now, server, ms) end
local reply = {}
for i = waiters, #ARGV, 3 do
  local member, servers, at_server, trial = ARGV[i], {}, '', 0
  for server in string.gmatch(ARGV[i + 1], '[^,]+') do
    servers[#servers + 1] = server
    if redis.call('ZSCORE', 'line:busy:' .. server, member) then
      at_server = server
      redis.call('ZADD', 'line:busy:' .. server, now + ms, member)
      if redis.call('GET', 'line:trial:' .. server) == member then trial = 1 end
    end
  end
  if at_server ~= '' then
    reply[#reply + 1] = {at_server, trial, 0}
  else
    local _, ahead = queue(servers, tonumber(ARGV[i + 2]), ARGV[i + 1], member)
    reply[#reply + 1] = {'', ahead + 1, expected(ahead + 1, servers)}
  end
end
return reply
"""
)

"""Have the Lua scripts that change runs in Redis, and count and name them.

The keys of one script are in one slot of a Redis Cluster. So a run has a script of its own, and what is kept of an
owner, a client or a thread has another.
"""

from __future__ import annotations

import hashlib

PUBLISHED_BYTES = 64 * 2**10
"""Items that are larger than this are not published, only their number; readers ask for them."""

RUN_SCRIPT = """
local run, items, op, epoch = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local f = redis.call('HMGET', run, 'epoch', 'seq', 'lease', 'end', 'hold')
local seq, lease, ended, hold = tonumber(f[2]), tonumber(f[3]), f[4], tonumber(f[5] or 0)

local function publish(before, data)
  redis.call('SPUBLISH', run, before .. ' ' .. seq .. ' ' .. (#data > @PUBLISHED and '' or data))
end

local function finish(data, keep)
  seq = seq + 1
  redis.call('XADD', items, '0-' .. seq, 'e', '')
  redis.call('HSET', run, 'end', data, 'seq', seq)
  redis.call('PEXPIRE', run, keep)
  redis.call('PEXPIRE', items, keep)
  publish(seq - 1, 'end')
end

local function extend(span, keep)
  redis.call('PEXPIRE', run, keep + span + hold)
  redis.call('PEXPIRE', items, keep + span + hold)
end

if op == 'start' then
  local owner, span, keep, hold, trace, owned, thread = unpack(ARGV, 3)
  if f[1] then return f[1] == epoch and {lease} or 'exists' end
  redis.call('DEL', items)
  redis.call('HSET', run, 'epoch', epoch, 'seq', 0, 'lease', now + span, 'owner', owner, 'seen', now, 'cut', 0,
    'command', '', 'hold', hold, 'owned', owned, 'thread', thread)
  redis.call('PEXPIRE', run, keep + span + hold)
  if trace ~= '' then redis.call('HSET', run, 'trace', trace) end
  return {now + span}
end
if not f[1] then return 'gone' end
if op == 'status' then
  local s = redis.call('HMGET', run, 'owner', 'cut', 'trace')
  return {s[1], ended and 'ended' or lease < now and 'lost' or 'running', seq, tonumber(s[2]), s[3] or ''}
elseif op == 'read' then
  local after, most, cut, found, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), redis.call('HGET', run, 'cut'), {}, 0
  if after < tonumber(cut) then return {'snapshot', tonumber(cut), redis.call('HGET', run, 'snapshot')} end
  repeat
    local page = redis.call('XRANGE', items, '0-' .. (after + 1), '+', 'COUNT', 16)
    for _, entry in ipairs(page) do
      after = tonumber(string.sub(entry[1], 3))
      if entry[2][1] == 'e' then return {'end', ended, unpack(found)} end
      found[#found + 1], found[#found + 2] = after, entry[2][2]
      bytes = bytes + #entry[2][2]
      if bytes >= most or #found >= 2000 then return {'items', '', unpack(found)} end
    end
  until #page < 16
  if ended and #found == 0 then return {'end', ended} end
  return {'items', '', unpack(found)}
elseif op == 'command' or op == 'touch' then
  if not ended then redis.call('HSET', run, op == 'touch' and 'seen' or op, op == 'touch' and now or ARGV[2]) end
  return 'ok'
elseif op == 'take' then
  if ended or lease + hold >= now then return {seq, ended and 1 or 0, ''} end
  redis.call('HSET', run, 'epoch', '')
  finish(ARGV[3], ARGV[4])
  return {seq, 1, redis.call('HGET', run, 'owned')}
elseif op == 'adopt' and not ended and lease < now then
  redis.call('HSET', run, 'epoch', epoch, 'lease', now + ARGV[3], 'seen', now)
  extend(ARGV[3], ARGV[4])
  f[1] = epoch
end
if f[1] ~= epoch then return 'gone' end
if op == 'adopt' then return seq end
if op == 'append' then
  local before, count, last, span, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
  local owned = redis.call('HGET', run, 'owned')
  if ended then return (last ~= '' and seq == before + count + 1) and {owned} or 'gone' end
  if seq == before and count > 0 then
    local size = 0
    for piece = 9, #ARGV, 2 do size = size + #ARGV[piece + 1] end
    local bytes = redis.call('HINCRBY', run, 'bytes', size)
    if last == '' and bytes > tonumber(ARGV[8]) then
      redis.call('HINCRBY', run, 'bytes', -size)
      return 'large'
    end
    for piece = 9, #ARGV, 2 do
      seq = seq + tonumber(ARGV[piece])
      redis.call('XADD', items, '0-' .. seq, 'i', ARGV[piece + 1])
      publish(seq - ARGV[piece], ARGV[piece + 1])
    end
    if before == 0 then redis.call('PEXPIRE', items, keep + span + hold) end
  elseif seq ~= before + count then
    return 'gone'
  end
  redis.call('HSET', run, 'seq', seq, 'lease', now + span)
  if last == '' then return 'ok' end
  finish(last, keep)
  return {owned}
end
if ended then return 'gone' end
if op == 'renew' then
  local span, keep = ARGV[3], ARGV[4]
  redis.call('HSET', run, 'lease', now + span)
  extend(span, keep)
  local s = redis.call('HMGET', run, 'command', 'seen', 'owned', 'thread')
  return {s[1], now - s[2], now + span, s[3], s[4], hold}
elseif op == 'undo' then
  redis.call('DEL', run, items)
  return 'ok'
elseif op == 'trim' then
  local less, after = redis.call('HSTRLEN', run, 'snapshot'), 0
  repeat
    local page = redis.call('XRANGE', items, '0-' .. (after + 1), '0-' .. ARGV[3], 'COUNT', 16)
    for _, entry in ipairs(page) do
      after = tonumber(string.sub(entry[1], 3))
      less = less + #entry[2][2]
    end
  until #page < 16
  redis.call('HINCRBY', run, 'bytes', #ARGV[4] - less)
  redis.call('HSET', run, 'cut', ARGV[3], 'snapshot', ARGV[4])
  redis.call('XTRIM', items, 'MINID', '0-' .. (ARGV[3] + 1))
  return 'ok'
end
""".replace("@PUBLISHED", str(PUBLISHED_BYTES))
"""Change or read one run. `run` is a hash, and the channel where its items are published; `items` is a stream."""

INDEX_SCRIPT = """
local key, op, id = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if op == 'count' then
  local lease, keep, limit = tonumber(ARGV[3]), ARGV[4], ARGV[5]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if limit ~= '' and not redis.call('ZSCORE', key, id) and redis.call('ZCARD', key) >= tonumber(limit) then
    return 'many'
  end
  redis.call('ZADD', key, lease, id)
  redis.call('PEXPIRE', key, keep + math.max(0, lease - now))
elseif op == 'uncount' then
  redis.call('ZREM', key, id)
elseif op == 'claim' then
  local newest = redis.call('GET', key) or ''
  if newest ~= id and newest ~= ARGV[4] then return {newest} end
  redis.call('SET', key, id, 'PX', ARGV[3])
elseif op == 'extend' then
  if redis.call('GET', key) == id then redis.call('PEXPIRE', key, ARGV[3]) end
elseif op == 'get' then
  return {redis.call('GET', key) or ''}
end
return 'ok'
"""
"""Count the running runs of an owner or a client (a sorted set), or name the newest run of a thread (a string)."""


def sha(script: str) -> str:
    """Return the name under which Redis keeps a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()

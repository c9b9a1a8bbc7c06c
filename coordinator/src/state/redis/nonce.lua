-- Remembers a nonce of a client, unless it is remembered already or there is no room.
--
-- KEYS[1] the client's nonces: a sorted set by the time until which each is kept, in milliseconds
-- ARGV    nonce, kept until, the time before which others may go, most nonces, kept longer
-- gives   "fresh", "used" or "full"
local until_known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if until_known and tonumber(until_known) >= tonumber(ARGV[3]) then
    return 'used'
end
if redis.call('ZCOUNT', KEYS[1], ARGV[3], '+inf') >= tonumber(ARGV[4]) then
    return 'full'
end
-- A few of what may go, each time: a call adds one, and none takes long.
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3], 'LIMIT', 0, 20)
if #gone > 0 then
    redis.call('ZREM', KEYS[1], unpack(gone))
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last + ARGV[5]))
return 'fresh'

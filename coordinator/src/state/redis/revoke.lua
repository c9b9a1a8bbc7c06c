-- Takes a link back, where it is the caller's.
--
-- KEYS[1] the link
-- KEYS[2] ids of all revoked links: a sorted set by the time until which each is kept, in milliseconds
-- KEYS[3] how often that changed
-- ARGV    id, owner, now, the time before which others may go
-- gives   when the revoked link expires, or 0 where it is not theirs
local link = redis.call('HMGET', KEYS[1], 'owner', 'expires')
if not link[1] or link[1] ~= ARGV[2] or tonumber(ARGV[3]) >= tonumber(link[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'revoked', 1)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4])
redis.call('ZADD', KEYS[2], link[2], ARGV[1])
redis.call('INCR', KEYS[3])
return tonumber(link[2])

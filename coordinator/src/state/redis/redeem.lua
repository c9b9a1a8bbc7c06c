-- Opens or joins a redemption of a link.
--
-- KEYS[1] the link's redemptions: "count", and for each address "open until" and visits
-- KEYS[2] the link
-- ARGV    address, most downloads, now, open until, when the redemptions may go; times in milliseconds
-- gives   {"opened", 1}, {"joined", visits before}, {"exhausted", 0} or {"revoked", 0}
if redis.call('HEXISTS', KEYS[2], 'revoked') == 1 then
    return {'revoked', 0}
end
local open = redis.call('HGET', KEYS[1], ARGV[1])
if open then
    local open_until, visits = string.match(open, '^(%d+) (%d+)$')
    if tonumber(ARGV[3]) < tonumber(open_until) then
        redis.call('HSET', KEYS[1], ARGV[1], open_until .. ' ' .. string.format('%.0f', visits + 1))
        return {'joined', tonumber(visits)}
    end
end
if tonumber(redis.call('HGET', KEYS[1], 'count') or 0) >= tonumber(ARGV[2]) then
    return {'exhausted', 0}
end
redis.call('HINCRBY', KEYS[1], 'count', 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. ' 1')
redis.call('PEXPIREAT', KEYS[1], ARGV[5])
return {'opened', 1}

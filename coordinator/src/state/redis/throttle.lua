-- One call against a client's pace: Meter::count of state/throttle.rs, step by step alike.
-- Times are whole microseconds, which doubles hold exactly.
--
-- KEYS[1] the client's meter
-- ARGV    now, interval, burst, strikes over burst, shortest block, longest block, quiet time, kept longer
-- gives   {"no", calls that remain}, {"yes", how long to wait} or {"blocked", until when}
local now, interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local strikes_over_burst = tonumber(ARGV[4])
local block_min, block_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local quiet, kept_longer = tonumber(ARGV[7]), tonumber(ARGV[8])

local kept = redis.call('HMGET', KEYS[1], 'whole_at', 'strikes_whole_at', 'blocked_until', 'blocks')
local whole_at, strikes_whole_at = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
local blocked_until, blocks = tonumber(kept[3] or 0), tonumber(kept[4] or 0)

-- Takes one from an allowance: when it is whole again, how many remain, how long to wait.
local function take(at, size)
    local span = interval * size
    at = math.max(now, math.min(at, now + span))
    local taken = at - now + interval
    if taken > span then
        return at, nil, taken - span
    end
    return now + taken, math.floor((span - taken) / interval), nil
end

local function count()
    blocked_until = math.min(blocked_until, now + block_max)
    if now < blocked_until then
        return {'blocked', blocked_until}
    end
    local remaining, wait, passes
    whole_at, remaining, wait = take(whole_at, burst)
    if remaining then
        return {'no', remaining}
    end
    strikes_whole_at, passes = take(strikes_whole_at, burst + strikes_over_burst)
    if passes then
        return {'yes', wait}
    end
    if now >= blocked_until + quiet then
        blocks = 0
    end
    local length = math.min(block_min * 2 ^ math.min(blocks, 16), block_max)
    blocks = blocks + 1
    blocked_until = now + length
    strikes_whole_at = 0
    return {'blocked', blocked_until}
end

local answer = count()
local function whole(number)
    return string.format('%.0f', number)
end
redis.call('HSET', KEYS[1], 'whole_at', whole(whole_at), 'strikes_whole_at', whole(strikes_whole_at),
    'blocked_until', whole(blocked_until), 'blocks', whole(blocks))
local idle_at = math.max(whole_at, strikes_whole_at)
if blocks > 0 then
    idle_at = math.max(idle_at, blocked_until + quiet)
end
redis.call('PEXPIREAT', KEYS[1], whole(math.ceil((idle_at + kept_longer) / 1000)))
return answer

-- Counts one request of a grant: a token bucket as one number, the moment at which the bucket is full again (GCRA).
-- KEYS[1]  the grant's bucket
-- ARGV[1]  microseconds between two requests at the sustained rate
-- ARGV[2]  the burst
-- Returns {1, 0} for a request that may go on, {0, microseconds to wait} for one that may not.
-- The clock is the server's: replicas whose clocks differ count alike.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
-- A server whose clock was set back, or a burst that was lowered, must not shut a grant out for longer than its burst takes.
full = math.min(full, now + interval * burst)
local after = full + interval
local wait = after - interval * burst - now
if wait > 0 then
    return { 0, math.ceil(wait) }
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.max(1, math.ceil((after - now) / 1000)))
return { 1, 0 }

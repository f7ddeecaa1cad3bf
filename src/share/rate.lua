-- The generic cell rate algorithm. KEYS[1]: the time, in microseconds, up to which the key has spent.
-- ARGV: microseconds of one request; microseconds of a whole burst. Answers whether it passes, how many are left, and how many
-- microseconds until everything is left again, or, where it does not pass, until one more may come.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local spent = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
local next = math.max(spent - now, 0) + interval
-- A part of a microsecond is lost in writing the time down.
if next > depth + 0.01 then
  return {0, 0, math.ceil(next - depth)}
end
redis.call('SET', KEYS[1], string.format('%.3f', now + next), 'PX', math.ceil(next / 1000))
return {1, math.floor((depth - next) / interval + 0.001), math.ceil(next)}

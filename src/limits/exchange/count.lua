-- Counts requests of several keys by the generic cell rate algorithm, with the time of the server.
--
-- A key holds a theoretical arrival time in microseconds since 1970. Requests that have passed already are a function of
-- it: it becomes itself and an interval for each, and at least the time that it would be if they were all that ever came.
-- Requests that wait are granted as far as they fit.
--
-- ARGV[1]: 1 when a gateway was alone for a while. What passed then is counted up to what the limit holds, and no debt made
-- of it. Then of each key: requests that have passed, their arrival time from now, requests that wait, the interval in
-- nanoseconds, and how far the arrival time may run ahead.
-- Answers of each key: the arrival time from now, and how many of those that wait may pass.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local was_alone = ARGV[1] == '1'
local answers = {}
for number, key in ipairs(KEYS) do
  local place = 5 * number - 3
  local spent, ahead, wanted = tonumber(ARGV[place]), tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  local interval, capacity = tonumber(ARGV[place + 3]), tonumber(ARGV[place + 4])
  local before = tonumber(redis.call('GET', key) or nil)
  local arrival = now + ahead
  if before then
    arrival = math.max(arrival, before + math.ceil(spent * interval / 1000))
  end
  if was_alone then
    arrival = math.min(arrival, math.max(before or 0, now + capacity))
  end
  local granted = 0
  if wanted > 0 then
    local from = math.max(arrival, now)
    granted = math.max(0, math.min(wanted, math.floor((now + capacity - from) * 1000 / interval)))
    if granted > 0 then
      arrival = from + math.ceil(granted * interval / 1000)
    end
  end
  -- For a second longer than it matters, since what another gateway tells next may have come before this.
  arrival = math.max(arrival, now - 1000000)
  redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil(math.max(arrival - now, 0) / 1000) + 1000)
  answers[2 * number - 1] = arrival - now
  answers[2 * number] = granted
end
return answers

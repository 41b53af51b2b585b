-- wrk: the tokens of the file TOKENS and the paths of the file TARGETS, one after the other. With BODY_BYTES each is a POST.
local requests, last = {}, 0

local function lines(name)
  local all = {}
  for line in io.lines(os.getenv(name)) do all[#all + 1] = line end
  return all
end

function init(args)
  local tokens, targets = lines("TOKENS"), lines("TARGETS")
  local bytes = tonumber(os.getenv("BODY_BYTES") or "0")
  local method, body = "GET", nil
  if bytes > 0 then method, body = "POST", string.rep("x", bytes) end
  for i = 0, math.max(#tokens, #targets) - 1 do
    requests[i + 1] = wrk.format(method, targets[i % #targets + 1], {
      ["Authorization"] = "Bearer " .. tokens[i % #tokens + 1],
      ["Accept"] = "application/json",
      ["User-Agent"] = "bench",
    }, body)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT requests=%d us=%d bytes=%d errors=%d p50=%d p99=%d max=%d\n", summary.requests, summary.duration,
    summary.bytes, errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end

-- Requests as fast as answers come, see load.py:
--
--     wrk ... -s upload.lua URL -- FILE NUMBER THREADS
--
-- FILE says what to send, NUMBER is that of the first request. Each of the THREADS has its own numbers.
local threads = {}

function setup(thread)
  thread:set("place", #threads)
  table.insert(threads, thread)
end

function init(args)
  plan = dofile(args[1])
  first, step, sent, answered = tonumber(args[2]) + place, tonumber(args[3]), 0, 0
  rest = plan.tail
  if plan.sound then
    local file = assert(io.open(plan.sound, "rb"))
    rest = file:read("*a") .. plan.tail
    file:close()
  end
end

-- wrk asks the first thread for one request more at the beginning, and does not send it.
function request()
  local number = first + step * sent
  local devices = #plan.heads
  local device = number % devices
  local start = plan.first + 60 * (math.floor(number / devices) + device % 60)
  local head = plan.heads[device + 1]
  sent = sent + 1
  return os.date("!" .. head[1], start) .. os.date("!" .. head[2], start + 60) .. rest
end

function response(status)
  if status == plan.accepted then answered = answered + 1 end
end

function done(summary, latency)
  local most, accepted, e = 0, 0, summary.errors
  for _, thread in ipairs(threads) do
    most = math.max(most, thread:get("sent"))
    accepted = accepted + thread:get("answered")
  end
  local errors = summary.requests - accepted + e.connect + e.read + e.write + e.timeout
  io.write(string.format(
    '\n{"numbers": %d, "accepted": %d, "errors": %d, "seconds": %f, "p50_ms": %.2f, "p99_ms": %.2f, "max_ms": %.2f}\n',
    most * #threads, accepted, errors, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3))
end

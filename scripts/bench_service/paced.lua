-- Uploads at a steady pace, each timed from when it was due, see paced.py:
--
--     wrk ... -s paced.lua URL -- FILE BEGIN RATE TOTAL CONNECTIONS THREADS
--
-- FILE says what to send. Upload 0 is due at BEGIN (ms of CLOCK_MONOTONIC), and RATE uploads follow
-- each second, TOTAL in all. A connection that is free waits for the next upload that nobody has.
-- Before, each of the CONNECTIONS says hello, a thousand a second: the service ends silent ones.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s, ns; } moment; int clock_gettime(int clock, moment *now);")
local moment = ffi.new("moment")
local threads = {}

function setup(thread)
  thread:set("place", #threads)
  table.insert(threads, thread)
end

function init(args)
  plan = dofile(args[1])
  begin, rate, total, step = tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[6])
  hellos = math.floor(tonumber(args[5]) / step)
  taken, begun, took, late, refused = -hellos, -hellos, {}, {}, 0
  local file = assert(io.open(plan.sound, "rb"))
  rest = file:read("*a") .. plan.tail
  file:close()
  hello = wrk.format("GET", "/health/live", {["X-Request-ID"] = "hello"})
  asked_in_vain = place > 0  -- wrk asks the first thread for a request that it does not send
end

local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.s) * 1e3 + tonumber(moment.ns) / 1e6
end

local function due(number)
  if number < 0 then return begin - 1000 + number end
  return begin + 1e3 * number / rate
end

function delay()
  local number = place + step * taken
  taken = taken + 1
  if number >= total then return 1e9 end
  return math.max(0, due(number) - now())
end

-- Delays end in the order of their uploads.
function request()
  if not asked_in_vain then
    asked_in_vain = true
    return hello
  end
  local number = place + step * begun
  begun = begun + 1
  if number < 0 then return hello end
  late[begun] = now() - due(number)
  local device = number % #plan.heads
  local start = plan.first + 60 * (math.floor(number / #plan.heads) + device % 60)
  local head = plan.heads[device + 1]
  local text = os.date("!" .. head[1], start) .. os.date("!" .. head[2], start + 60)
  return text:gsub("\r\n", "\r\nX-Request-ID: " .. number .. "\r\n", 1) .. rest
end

function response(status, headers)
  local number = tonumber(headers["X-Request-ID"])
  if status == plan.accepted and number then
    took[#took + 1] = now() - due(number)
  elseif status ~= 200 then
    refused = refused + 1
  end
end

local function all(name)
  local values = {}
  for _, thread in ipairs(threads) do
    for _, value in ipairs(thread:get(name)) do values[#values + 1] = value end
  end
  table.sort(values)
  return values
end

local function at(values, part) return values[math.max(1, math.ceil(part * #values))] or 0 end

function done(summary)
  local took, late, refused, e = all("took"), all("late"), 0, summary.errors
  for _, thread in ipairs(threads) do refused = refused + thread:get("refused") end
  io.write(string.format(
    '\n{"sent": %d, "accepted": %d, "refused": %d, "broken": %d, "p50_ms": %.2f, "p99_ms": %.2f, "max_ms": %.2f, "late_p99_ms": %.2f}\n',
    #late, #took, refused, e.connect + e.read + e.write + e.timeout, at(took, 0.5), at(took, 0.99),
    at(took, 1), at(late, 0.99)))
end

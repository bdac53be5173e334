-- One tools/call over and over; the result as one JSON line. The bearer token comes from the environment, if there is one.
wrk.method = "POST"
wrk.body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"' .. os.getenv("BENCH_TOOL")
    .. '","arguments":{"text":"hello"}}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
wrk.headers["MCP-Protocol-Version"] = "2025-11-25"
local token = os.getenv("BENCH_TOKEN")
if token then
  wrk.headers["Authorization"] = "Bearer " .. token
end

local thread_list = {}
wrong = 0

function setup(thread)
  table.insert(thread_list, thread)
end

function response(status, headers, body)
  if status ~= 200 or not body:find("hello from the upstream", 1, true) then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local wrong_sum = 0
  for _, thread in ipairs(thread_list) do
    wrong_sum = wrong_sum + thread:get("wrong")
  end
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"seconds":%.6f,"wrong":%d,"errors":%d,"p50_ms":%.3f,"p99_ms":%.3f}',
    summary.requests, summary.duration / 1e6, wrong_sum,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end

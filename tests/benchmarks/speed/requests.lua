-- For wrk: send the requests of a file, one a line: method, path, address and body, with tabs
-- between them. With "again", begin anew at the end; otherwise the file must have enough.
local requests, place, again = {}, 0, false

function init(arguments)
   again = arguments[2] == "again"
   for line in io.lines(arguments[1]) do
      local method, path, address, body = line:match("^(.-)\t(.-)\t(.-)\t(.*)$")
      local headers = { ["Content-Type"] = "application/json", ["X-Forwarded-For"] = address }
      if body == "" then body = nil end
      requests[#requests + 1] = wrk.format(method, path, headers, body)
   end
end

function request()
   place = place + 1
   if place > #requests then
      if not again then os.exit(3) end
      place = 1
   end
   return requests[place]
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format(
      '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "lost": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout))
end

-- The load: keep-alive connections of a browser, 1,000 users in turn, each with a token and a
-- path of their own.  wrk ... -s load.lua URL -- TOKENS.txt

local requests, count, at, serial = {}, 0, 0, 0

function init(arguments)
   local host = wrk.host .. ":" .. wrk.port
   for token in io.lines(arguments[1]) do
      count = count + 1
      requests[count] = "GET " .. wrk.path .. count .. "?fields=name,email&lang=en HTTP/1.1\r\n"
         .. "Host: " .. host .. "\r\n"
         .. "Connection: keep-alive\r\n"
         .. "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
         .. "Accept: application/json, text/plain, */*\r\n"
         .. "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
         .. "Accept-Encoding: gzip, deflate, br, zstd\r\n"
         .. "Referer: http://" .. host .. "/app/orders\r\n"
         .. "Sec-Fetch-Dest: empty\r\n"
         .. "Sec-Fetch-Mode: cors\r\n"
         .. "Sec-Fetch-Site: same-origin\r\n"
         .. "Authorization: Bearer " .. token .. "\r\n"
         .. "X-Request-Id: bench-"
   end
end

function request()
   at = at % count + 1
   serial = serial + 1
   return requests[at] .. string.format("%010d", serial) .. "\r\n\r\n"
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d, "refused": %d, "broken": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

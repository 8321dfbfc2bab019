-- The load: keep-alive connections of a browser, 1,000 users in turn, each with a token and a path
-- of their own.  wrk ... -s load.lua URL -- TOKENS.txt, and what `name=value` behind that says:
--
--   cold=FILE skip=N share=S   a share of the requests has the next token of FILE, from line N on
--   method=POST body=BYTES     each request has a body
--   routes=N                   the paths are those of N routes
--   paths=N                    so many different paths are asked for, each with one of the tokens
--   owners=1                   each user asks for an order of their own
--   public=1                   without a token
--   forwarded=1                with what a proxy says of the client

local heads, count, at, serial = {}, 0, 0, 0
local cold, cold_count, cold_at, cold_each, since_cold = {}, 0, 0, 0, 0
local request_id = "X-Request-Id: bench-"
local body_tail = "\r\n\r\n"

local function words(arguments)
   local said = {}
   for n = 2, #arguments do
      local name, value = arguments[n]:match("^([^=]+)=(.*)$")
      said[name] = value
   end
   return said
end

local function path_of(n, said, users)
   if said.routes then
      return "/api/r" .. (n - 1) % tonumber(said.routes) .. "/users/" .. n
   elseif said.owners then
      return string.format("/api/orders/user-%06d/%d", (n - 1) % users, n)
   end
   return wrk.path .. n
end

local function bearer(token)
   return "Authorization: Bearer " .. token .. "\r\n"
end

function init(arguments)
   local said = words(arguments)
   local host = wrk.host .. ":" .. wrk.port
   local tokens, bytes = {}, tonumber(said.body or 0)
   for token in io.lines(arguments[1]) do tokens[#tokens + 1] = token end
   count = math.max(#tokens, tonumber(said.paths or 0))
   local fields = ""
   if said.forwarded then
      fields = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n"
   end
   if said.method == "POST" then
      fields = fields .. "Content-Type: application/json\r\nContent-Length: " .. bytes .. "\r\n"
      body_tail = body_tail .. '"' .. string.rep("x", bytes - 2) .. '"'
   end
   for n = 1, count do
      local head = (said.method or "GET") .. " " .. path_of(n, said, #tokens)
         .. "?fields=name,email&lang=en HTTP/1.1\r\n"
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
         .. fields
      local token = said.public and "" or bearer(tokens[(n - 1) % #tokens + 1])
      heads[n] = {head, head .. token .. request_id}
   end
   if said.cold then
      for token in io.lines(said.cold) do cold[#cold + 1] = token end
      cold_count, cold_at = #cold, tonumber(said.skip) % #cold
      cold_each = math.floor(1 / tonumber(said.share) + 0.5)
   end
end

function request()
   at = at % count + 1
   serial = serial + 1
   local head = heads[at][2]
   if cold_each > 0 then
      since_cold = since_cold + 1
      if since_cold >= cold_each then
         since_cold = 0
         cold_at = cold_at % cold_count + 1
         head = heads[at][1] .. bearer(cold[cold_at]) .. request_id
      end
   end
   return head .. string.format("%010d", serial) .. body_tail
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d, "refused": %d, "broken": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

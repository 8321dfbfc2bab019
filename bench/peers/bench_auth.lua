-- A bearer token judged in nginx: signature, issuer, expiry, revocation, role, rate per user.
-- judge(true) keeps the claims of a token that was good in a shared table.

local cjson = require "cjson.safe"
local digests = require "openssl.digest"
local keys = require "openssl.pkey"

local function read(path)
   local file = assert(io.open(path))
   local text = file:read("*a")
   file:close()
   return text
end

local ALGORITHM = "@ALGORITHM@"
local public_keys = {}
for issuer, path in pairs(@KEYS@) do public_keys[issuer] = keys.new(read(path)) end
local revoked = {}
for id in io.lines("@REVOKED@") do revoked[id] = true end

local function decoded(text)
   text = text:gsub("-", "+"):gsub("_", "/")
   return ngx.decode_base64(text .. string.rep("=", -#text % 4))
end

-- A JWS holds the two numbers of an ECDSA signature side by side, OpenSSL wants them in DER.
local function der_integer(bytes)
   bytes = bytes:gsub("^%z+", "")
   if bytes == "" or bytes:byte() > 127 then bytes = "\0" .. bytes end
   return "\2" .. string.char(#bytes) .. bytes
end

local function signature_of(text)
   local raw = decoded(text)
   if ALGORITHM ~= "ES256" or not raw then return raw end
   if #raw ~= 64 then return nil end
   local both = der_integer(raw:sub(1, 32)) .. der_integer(raw:sub(33))
   return "\48" .. string.char(#both) .. both
end

local function claims_of(token)
   local head, body, signature = token:match("^([^.]+)%.([^.]+)%.([^.]+)$")
   if not head then return nil end
   local header = cjson.decode(decoded(head) or "")
   if not header or header.alg ~= ALGORITHM then return nil end
   local claims = cjson.decode(decoded(body) or "")
   local public_key = claims and public_keys[claims.iss]
   local text = signature_of(signature)
   if not public_key or not text then return nil end
   local digest = digests.new("sha256")
   digest:update(head .. "." .. body)
   local good, verified = pcall(public_key.verify, public_key, text, digest)
   if not good or not verified then return nil end
   return claims
end

local function kept_claims_of(token)
   local kept = ngx.shared.tokens:get(token)
   if kept then return cjson.decode(kept) end
   local claims = claims_of(token)
   if claims then ngx.shared.tokens:set(token, cjson.encode(claims), 300) end
   return claims
end

local function holds(roles, wanted)
   for _, role in ipairs(roles) do
      if role == wanted then return true end
   end
   return false
end

local function may_see_order(claims)
   local owner = ngx.var.uri:match("^/api/orders/([^/]+)/")
   if not owner then return true end
   return owner == claims.sub and ngx.time() - claims.auth_time < 86400 and ngx.var.arg_lang == "en"
end

local auth = {}

function auth.judge(keep)
   local field = ngx.var.http_authorization
   if not field or field:sub(1, 7) ~= "Bearer " then return ngx.exit(401) end
   local token = field:sub(8)
   local claims = keep and kept_claims_of(token) or not keep and claims_of(token)
   if not claims or claims.exp <= ngx.time() then return ngx.exit(401) end
   if revoked[claims.jti] then return ngx.exit(401) end
   if not holds(claims.roles, "user") then return ngx.exit(403) end
   if @OWNERSHIP@ and not may_see_order(claims) then return ngx.exit(403) end
   local window = claims.sub .. math.floor(ngx.time() / 10)
   if ngx.shared.rates:incr(window, 1, 0, 20) > 100000000 then return ngx.exit(429) end
   ngx.req.set_header("X-User-Id", claims.sub)
   ngx.req.set_header("X-User-Roles", table.concat(claims.roles, ","))
end

return auth

// fastify with its own proxy and JWT plugins, the JWT cache on.
// node app.js PORT BACKEND PUBLIC_PEM REVOKED ISSUER

const fs = require('fs')
const fastify = require('fastify')({ logger: false })

const [port, backend, publicPem, revokedList, issuer] = process.argv.slice(2)
const revoked = new Set(fs.readFileSync(revokedList, 'utf8').split('\n'))
const WINDOW_MS = 10000
const MOST_IN_A_WINDOW = 1e8
let calls = new Map()
let currentWindow = 0

function callsOf (subject) {
  const window = Math.floor(Date.now() / WINDOW_MS)
  if (window !== currentWindow) {
    currentWindow = window
    calls = new Map()
  }
  const count = (calls.get(subject) || 0) + 1
  calls.set(subject, count)
  return count
}

async function judge (request, reply) {
  try {
    await request.jwtVerify()
  } catch {
    return reply.code(401).send()
  }
  const claims = request.user
  if (revoked.has(claims.jti)) return reply.code(401).send()
  if (!claims.roles.includes('user')) return reply.code(403).send()
  if (callsOf(claims.sub) > MOST_IN_A_WINDOW) return reply.code(429).send()
}

fastify.register(require('@fastify/jwt'), {
  secret: { public: fs.readFileSync(publicPem) },
  verify: { algorithms: ['RS256'], allowedIss: issuer, cache: 2000 }
})
fastify.register(require('@fastify/http-proxy'), {
  upstream: `http://127.0.0.1:${backend}`,
  preHandler: judge,
  undici: { connections: 128, pipelining: 1 },
  replyOptions: {
    rewriteRequestHeaders: (request, headers) => ({
      ...headers,
      'x-user-id': request.user.sub,
      'x-user-roles': request.user.roles.join(',')
    })
  }
})
fastify.listen({ port: Number(port), host: '127.0.0.1' })

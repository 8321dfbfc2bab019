// oidc-provider as its documentation configures it; what a test may choose comes as JSON in OPTIONS.
// The control port, which is the tests' alone, changes its keys, spoils its answers and counts what
// it was asked for.
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import * as oidc from 'oidc-provider'

const options = JSON.parse(process.env.OPTIONS)
const { port, controlPort, issuer, clients, resources, accounts, algorithms, keysFile } = options

// --- what it keeps: for as long as the process lives, whatever keys it has meanwhile

class Kept {
  static rows = new Map()

  constructor(kind) {
    this.kind = kind
  }

  key = (id) => `${this.kind}:${id}`

  async upsert(id, payload, expiresIn) {
    const until = expiresIn ? Date.now() + expiresIn * 1000 : Infinity
    Kept.rows.set(this.key(id), { payload, until })
  }

  async find(id) {
    const row = Kept.rows.get(this.key(id))
    return row && row.until > Date.now() ? row.payload : undefined
  }

  async findBy(field, value) {
    for (const [key, { payload, until }] of Kept.rows) {
      if (key.startsWith(`${this.kind}:`) && payload[field] === value && until > Date.now())
        return payload
    }
    return undefined
  }

  findByUid = (uid) => this.findBy('uid', uid)
  findByUserCode = (code) => this.findBy('userCode', code)

  async consume(id) {
    const row = Kept.rows.get(this.key(id))
    row.payload.consumed = Math.floor(Date.now() / 1000)
  }

  async destroy(id) {
    Kept.rows.delete(this.key(id))
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of Kept.rows) {
      if (key.startsWith(`${this.kind}:`) && payload.grantId === grantId) Kept.rows.delete(key)
    }
  }
}

// --- keys: the first of an algorithm signs; those that were let go stay in the set on request

const KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
}

function newKeys() {
  return algorithms.map((alg) => {
    const { privateKey } = generateKeyPairSync(...KINDS[alg])
    const kid = `${alg.toLowerCase()}-${randomBytes(6).toString('hex')}`
    return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }
  })
}

let keys = existsSync(keysFile) ? JSON.parse(readFileSync(keysFile, 'utf8')) : newKeys()
let answer
let provider

function serve(newest, kept = []) {
  keys = [...newest, ...kept]
  writeFileSync(keysFile, JSON.stringify(keys), { mode: 0o600 })
  provider = new oidc.Provider(issuer, configuration())
  provider.on('server_error', (_, error) => console.error(error))
  provider.on('backchannel.error', (_, error, client) => logouts.push(`${client.clientId}: ${error.message}`))
  provider.on('backchannel.success', (_, client) => logouts.push(`${client.clientId}: done`))
  answer = provider.callback()
}

const known = (id) => accounts[id] ?? { email: `${id}@example.com`, email_verified: true }

function configuration() {
  const scopes = Object.values(resources).flatMap(({ scope }) => (scope ?? '').split(' '))
  return {
    adapter: Kept,
    clients,
    jwks: { keys },
    cookies: { keys: ['tests alone'] },
    scopes: [...new Set(['openid', 'offline_access', 'email', 'groups', ...scopes.filter(Boolean)])],
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified', 'hd', 'xms_edov'],
      groups: ['groups', 'realm_access'],
    },
    // Google, Microsoft and Keycloak say in the ID token what is asked for.
    conformIdTokenClaims: !options.claimsInIdToken,
    clientDefaults: { id_token_signed_response_alg: algorithms[0] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...known(id) }) }),
    // Of a token of a client of its own there is no account and no session.
    extraTokenClaims: (_, token) =>
      token.accountId && { ...known(token.accountId), sid: token.sid, auth_time: token.authTime },
    // To a backend on this machine it would not speak otherwise: its guard against SSRF.
    fetch: (url, { dispatcher: _, ...rest }) => fetch(url, rest),
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    features: {
      devInteractions: { enabled: true },
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, __, oneOf) => oneOf ?? options.defaultResource ?? undefined,
        useGrantedResource: () => true,
        getResourceServerInfo(_, url) {
          const resource = resources[url]
          if (!resource) throw new oidc.errors.InvalidTarget()
          const { scope = '', audience = url, format = 'jwt', lifeS = 900, alg = algorithms[0] } = resource
          const jwt = format === 'jwt' ? { sign: { alg } } : undefined
          return { scope, audience, accessTokenFormat: format, accessTokenTTL: lifeS, jwt }
        },
      },
    },
  }
}

// --- what it answers instead, once the control port has said so

const SPOILT = {
  garbage: (res) => res.writeHead(200, { 'Content-Type': 'application/json' }).end('{"keys": [\x00'),
  empty: (res) => res.writeHead(200, { 'Content-Type': 'application/json' }).end('{}'),
  failing: (res) => res.writeHead(500).end('no'),
  redirecting: (res) => res.writeHead(302, { Location: `${issuer}/elsewhere` }).end(),
  endless: (res) => {
    const block = Buffer.alloc(65536, ' ')
    const more = () => {
      while (!res.destroyed && res.write(block));
    }
    res.writeHead(200, { 'Content-Type': 'application/json' })
    res.on('drain', more)
    more()
  },
  hanging: () => {},
}

let spoilt = null
let asked = {}
let logouts = []

const server = createServer((req, res) => {
  const path = req.url.split('?')[0]
  asked[path] = (asked[path] ?? 0) + 1
  if (spoilt) return spoilt(res)
  if (path === '/jwks' && options.cacheControl) res.setHeader('Cache-Control', options.cacheControl)
  return answer(req, res)
})

const control = createServer(async (req, res) => {
  let text = ''
  for await (const piece of req) text += piece
  const words = text ? JSON.parse(text) : {}
  switch (req.url) {
    case '/rotate':
      serve(newKeys(), words.keepOld ? keys : [])
      break
    case '/answer':
      spoilt = words.with === 'itself' ? null : SPOILT[words.with]
      break
    case '/account':
      accounts[words.id] = words.claims
      break
    case '/forget':
      asked = {}
      logouts = []
  }
  const kids = keys.map(({ kid }) => kid)
  res.writeHead(200, { 'Content-Type': 'application/json' })
  res.end(JSON.stringify({ kids, asked, logouts }))
})

serve(keys)
server.keepAliveTimeout = 60_000
server.listen(port, '127.0.0.1', () => control.listen(controlPort, '127.0.0.1'))

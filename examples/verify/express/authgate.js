// Express middleware: verifies X-Auth-Assertion with jose.
//
//   app.use(authgate({ issuer, audience: 'orders', jwksUrl }))
//
// A call without a good assertion is answered 401.  The caller is `req.caller`; with
// `anonymous: true` it is null for a call that brings no assertion.  Handlers never see an
// X-Auth-* field.
import { createRemoteJWKSet, jwtVerify } from 'jose'

export function authgate({ issuer, audience, jwksUrl, anonymous = false }) {
  const keys = createRemoteJWKSet(new URL(jwksUrl))

  return async function check(req, res, next) {
    const given = req.headers['x-auth-assertion']
    let caller = null
    if (given !== undefined || !anonymous) {
      try {
        const { payload } = await jwtVerify(given ?? '', keys, {
          algorithms: ['EdDSA'],
          typ: 'authgate-assertion+jwt',
          issuer,
          audience,
          clockTolerance: 5,
          requiredClaims: ['sub', 'iat', 'exp', 'method', 'path'],
        })
        const path = req.originalUrl.split('?', 1)[0]
        if (payload.aud !== audience || payload.method !== req.method || payload.path !== path) {
          throw new Error('made for another call')
        }
        caller = {
          subject: payload.sub,
          roles: payload.roles ?? [],
          sessionId: payload.sid ?? null,
          email: payload.email ?? null,
          emailVerified: payload.email_verified ?? false,
        }
      } catch {
        res.status(401).type('application/problem+json')
        res.send(JSON.stringify({ title: 'Not through the gateway', status: 401 }))
        return
      }
    }
    for (const name of Object.keys(req.headers)) {
      if (name.replaceAll('_', '-').startsWith('x-auth-')) delete req.headers[name]
    }
    req.caller = caller
    next()
  }
}

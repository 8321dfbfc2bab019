// A service that answers who calls: ISSUER, AUDIENCE, JWKS_URL, PORT and ANONYMOUS come from the
// environment.
import express from 'express'
import { authgate } from './authgate.js'

const { ISSUER, AUDIENCE, JWKS_URL, PORT, ANONYMOUS } = process.env
const app = express()
app.disable('x-powered-by')
app.use(
  authgate({
    issuer: ISSUER,
    audience: AUDIENCE,
    jwksUrl: JWKS_URL,
    anonymous: ANONYMOUS === '1',
  }),
)
app.all('/{*rest}', (req, res) => {
  const fields = Object.keys(req.headers).filter((name) => name.startsWith('x'))
  res.json({ caller: req.caller && req.caller.subject, roles: req.caller?.roles ?? [], fields })
})
app.listen(Number(PORT), '127.0.0.1', (error) => {
  if (error) throw error
  console.log('ready')
})

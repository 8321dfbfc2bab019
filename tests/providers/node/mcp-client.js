// A client of MCP that knows the URL and nothing else; whoever is to sign in does so in BROWSER.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

const url = new URL(process.argv[2])
const answers = createServer()
answers.listen(0, '127.0.0.1')
await once(answers, 'listening')
const back = `http://127.0.0.1:${answers.address().port}/back`
const kept = {}

const provider = {
  redirectUrl: back,
  clientMetadata: {
    client_name: 'A client',
    redirect_uris: [back],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    application_type: 'native',
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  redirectToAuthorization(page) {
    const [command, ...words] = process.env.BROWSER.replace('&', '').trim().split(' ')
    spawn(command, words.map((word) => word.replace('%s', page.href)), { stdio: 'inherit' })
  },
}

const client = new Client({ name: 'client', version: '1' })
let transport = new StreamableHTTPClientTransport(url, { authProvider: provider })
const sentBack = once(answers, 'request')
try {
  await client.connect(transport)
  throw new Error('connected without a token')
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error
}
const [request, response] = await sentBack
response.end('You may close this page.\n')
await transport.finishAuth(new URL(request.url, back).searchParams.get('code'))
transport = new StreamableHTTPClientTransport(url, { authProvider: provider })
await client.connect(transport)
const { content } = await client.callTool({ name: 'who', arguments: {} })
console.log(content[0].text)
await client.close()
process.exit(0)

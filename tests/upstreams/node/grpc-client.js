// What a gRPC-Web client gets through the gateway, as one line of JSON.  ORIGIN, PREFIX, TOKEN.
import { createClient } from '@connectrpc/connect'
import { createGrpcWebTransport } from '@connectrpc/connect-node'
import { Echo } from './grpc.js'

const { ORIGIN, PREFIX, TOKEN } = process.env
const transport = createGrpcWebTransport({ baseUrl: ORIGIN + PREFIX, httpVersion: '1.1' })
const client = createClient(Echo, transport)
const headers = { Authorization: `Bearer ${TOKEN}`, 'X-Auth-User-Id': 'root' }
const told = {}
const said = await client.say(
  { text: 'héllo' },
  {
    headers,
    onHeader: (fields) => (told.leading = fields.get('x-leading')),
    onTrailer: (fields) => (told.trailing = fields.get('x-trailing')),
  },
)
told.text = said.text
told.user = said.user
told.codes = []
const code = async (call) => {
  try {
    await call()
  } catch (error) {
    told.codes.push([error.code, error.rawMessage])
  }
}
await code(() => client.say({ text: '' }, { headers }))
told.repeated = 0
await code(async () => {
  for await (const _ of client.repeat({ text: 'x'.repeat(10000), times: 50 }, { headers }))
    told.repeated++
})
await code(() => client.say({ text: 'x' }, { headers: {} }))
console.log(JSON.stringify(told))

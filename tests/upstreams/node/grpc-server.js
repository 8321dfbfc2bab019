// A server of gRPC-Web over HTTP/1.1; PREFIX is the path it serves below.
import { createServer } from 'node:http'
import { Code, ConnectError } from '@connectrpc/connect'
import { connectNodeAdapter } from '@connectrpc/connect-node'
import { Echo } from './grpc.js'

const { PREFIX, PORT } = process.env
const user = (context) => context.requestHeader.get('x-auth-user-id') ?? ''
const routes = (router) =>
  router.service(Echo, {
    say(ask, context) {
      if (ask.text === '') throw new ConnectError('nothing was said', Code.InvalidArgument)
      context.responseHeader.set('x-leading', '1')
      context.responseTrailer.set('x-trailing', '2')
      return { text: ask.text, user: user(context) }
    },
    async *repeat(ask, context) {
      for (let n = 0; n < ask.times; n++) yield { text: ask.text, user: user(context) }
      throw new ConnectError('that was all', Code.ResourceExhausted)
    },
  })
const handler = connectNodeAdapter({ routes, requestPathPrefix: PREFIX, connect: false, grpc: false })
createServer(handler).listen(Number(PORT), '127.0.0.1', () => console.log('ready'))

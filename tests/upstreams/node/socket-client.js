// A Socket.IO client: long polling first, then the upgrade.  ORIGIN, PREFIX, TOKEN.
import { io } from 'socket.io-client'

const { ORIGIN, PREFIX, TOKEN } = process.env
const socket = io(ORIGIN, {
  path: `${PREFIX}/socket.io`,
  extraHeaders: TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {},
  reconnection: false,
})
const told = {}
const end = () => {
  console.log(JSON.stringify(told))
  process.exit()
}
socket.on('connect_error', (error) => {
  told.error = error.message
  end()
})
// Before the upgrade, which begins as soon as polling works.
told.began = socket.io.engine.transport.name
socket.on('welcome', async (user) => {
  told.user = user
  if (socket.io.engine.transport.name !== 'websocket')
    await new Promise((done) => socket.io.engine.once('upgrade', done))
  told.said = await socket.emitWithAck('say', 'héllo')
  end()
})

// Express, and Socket.IO on the same server; PREFIX is the path it serves below.
// `trust proxy` makes it see the client's address and scheme.
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import { gzipSync } from 'node:zlib'
import express from 'express'
import multer from 'multer'
import { Server } from 'socket.io'

const { PREFIX, PORT, FILE } = process.env
const app = express()
app.set('trust proxy', 'loopback')
app.set('query parser', (text) => [...new URLSearchParams(text)])
const pages = express.Router()
app.use(PREFIX, pages)

const fields = (raw) => raw.flatMap((v, i) => (i % 2 ? [] : [[v.toLowerCase(), raw[i + 1]]]))

pages.all('/echo/{*rest}', express.text({ type: () => true }), (req, res) => {
  const seen = fields(req.rawHeaders)
  res.json({
    method: req.method,
    path: decodeURIComponent(PREFIX + req.path),
    query: req.query,
    fields: seen,
    user: seen.filter(([name]) => name.replaceAll('_', '-') === 'x-auth-user-id').map((f) => f[1]),
    body: typeof req.body === 'string' ? req.body : '',
    client: req.ip,
    scheme: req.protocol,
    host: req.host,
  })
})
pages.post('/form', multer().single('file'), (req, res) => {
  const sha256 = createHash('sha256').update(req.file.buffer).digest('hex')
  res.json({ note: req.body.note, name: req.file.originalname, size: req.file.size, sha256 })
})
pages.get('/download', (req, res) => res.sendFile(FILE, { headers: { 'X-Own': '1' } }))
pages.get('/none', (req, res) => res.status(204).end())
pages.get('/away', (req, res) =>
  res.redirect(302, `${req.protocol}://${req.host}${PREFIX}/echo/there`),
)
pages.get('/cookies', (req, res) => {
  res.cookie('a', '1', { httpOnly: true }).cookie('b', '2', { maxAge: 60000 })
  res.cookie('__Host-session', 'stolen', { secure: true }).json({})
})
pages.get('/chunks', (req, res) => {
  res.type('text/plain')
  for (let number = 0; number < 100; number++) res.write(`${number}\n`)
  res.end()
})
pages.get('/packed', (req, res) => {
  res.set('Content-Encoding', 'gzip').end(gzipSync(Buffer.from('packed'.repeat(1000))))
})
pages.get('/large', (req, res) => res.set('X-Large', 'v'.repeat(8000)).json({}))
pages.get('/boom', () => {
  throw new Error('boom')
})
pages.get('/trailers', (req, res) => {
  res.writeHead(200, { Trailer: 'X-Sum' })
  res.write('text')
  res.addTrailers({ 'X-Sum': 'four' })
  res.end()
})

const server = createServer(app)
const io = new Server(server, { path: `${PREFIX}/socket.io` })
io.on('connection', (socket) => {
  socket.emit('welcome', socket.handshake.headers['x-auth-user-id'])
  socket.on('say', (text, done) => done(`${socket.conn.transport.name}: ${text}`))
})
server.listen(Number(PORT), '127.0.0.1', () => console.log('ready'))

// The trailers of one answer, as node's http client reads them.  URL, TOKEN.
import { get } from 'node:http'

const { URL, TOKEN } = process.env
get(URL, { headers: { Authorization: `Bearer ${TOKEN}`, TE: 'trailers' } }, (answer) => {
  answer.resume()
  answer.on('end', () => console.log(JSON.stringify(answer.trailers)))
})

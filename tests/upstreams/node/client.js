// Requests of node's own `fetch`: one JSON line in, one out.  Bodies travel as base64.
import { createInterface } from 'node:readline'

for await (const line of createInterface({ input: process.stdin })) {
  const { method, url, fields, body } = JSON.parse(line)
  try {
    const answer = await fetch(url, {
      method,
      headers: fields,
      body: body === null ? undefined : Buffer.from(body, 'base64'),
      redirect: 'manual',
    })
    const content = Buffer.from(await answer.arrayBuffer()).toString('base64')
    const said = [...answer.headers].filter(([name]) => name !== 'set-cookie')
    for (const cookie of answer.headers.getSetCookie()) said.push(['set-cookie', cookie])
    console.log(JSON.stringify({ status: answer.status, fields: said, body: content }))
  } catch (error) {
    console.log(JSON.stringify({ error: `${error}: ${error.cause}` }))
  }
}

// A client of OAuth by somebody else's library: opens a family with proof of its key, uses, refreshes and ends it.
// node client.mjs PORT CA TOKEN
import https from 'node:https'
import { readFileSync } from 'node:fs'
import * as oauth from 'oauth4webapi'

const [port, ca, subject] = process.argv.slice(2)
const base = `https://acme.localhost:${port}`
const agent = new https.Agent({
  ca: readFileSync(ca),
  lookup: (_, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)),
})

// The platform's own fetch takes neither authorities nor addresses.
function fetch(url, { method, headers, body }) {
  return new Promise((resolve, reject) => {
    const request = https.request(url, { method, headers: Object.fromEntries(new Headers(headers)), agent }, (answer) => {
      const pieces = []
      answer.on('data', (piece) => pieces.push(piece))
      answer.on('end', () => resolve(new Response(Buffer.concat(pieces), { status: answer.statusCode, headers: answer.headers })))
    })
    request.on('error', reject)
    request.end(body?.toString())
  })
}

const server = { issuer: base, token_endpoint: `${base}/.moat/token`, revocation_endpoint: `${base}/.moat/revoke` }
const client = { client_id: 'test' }
const key = await oauth.generateKeyPair(process.env.ALG ?? 'ES256')
const DPoP = oauth.DPoP(client, key)
const by = { DPoP, [oauth.customFetch]: fetch }
const say = (what, value) => console.log(JSON.stringify({ [what]: value }))

const grant = 'urn:ietf:params:oauth:grant-type:token-exchange'
const kind = 'urn:ietf:params:oauth:token-type:access_token'
const exchange = { subject_token: subject, subject_token_type: kind }
let answer = await oauth.genericTokenEndpointRequest(server, client, oauth.None(), grant, exchange, by)
let tokens = await oauth.processGenericTokenEndpointResponse(server, client, answer)
say('opened', tokens.token_type)

for (let turn = 0; turn < 3; turn++) {
  answer = await oauth.protectedResourceRequest(tokens.access_token, 'GET', new URL(`${base}/api/held?turn=${turn}`), undefined, null, by)
  say('used', answer.status)
  answer = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), tokens.refresh_token, by)
  tokens = await oauth.processRefreshTokenResponse(server, client, answer)
  say('refreshed', tokens.token_type)
}

// Without the key, a bound token is nothing.
try {
  answer = await oauth.protectedResourceRequest(tokens.access_token, 'GET', new URL(`${base}/api/held`), undefined, null, { [oauth.customFetch]: fetch })
  say('stolen', answer.status)
} catch (error) {
  say('stolen', error.status ?? error.response?.status ?? String(error))
}

answer = await oauth.revocationRequest(server, client, oauth.None(), tokens.refresh_token, { [oauth.customFetch]: fetch })
await oauth.processRevocationResponse(answer)
answer = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), tokens.refresh_token, by)
try {
  await oauth.processRefreshTokenResponse(server, client, answer)
  say('ended', 'no')
} catch (error) {
  say('ended', error.error)
}

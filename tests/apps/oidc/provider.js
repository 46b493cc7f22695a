// An OpenID provider for tests: oidc-provider with one page to sign in, on which the user says how.
//
// Everything comes from the environment: PROVIDER_PORT, PROVIDER_CERT and PROVIDER_KEY for TLS, PROVIDER_CLIENTS as JSON, and
// PROVIDER_TOKENS, users whose access tokens are printed.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const packages = createRequire(pathToFileURL(`${process.env.NODE_MODULES_AT}/package.json`))
const { Provider } = await import(pathToFileURL(packages.resolve('oidc-provider')))

const issuer = `https://localhost:${process.env.PROVIDER_PORT}`

// The user's name says all there is to say of a user: `ada@acme` is Ada of Acme.
const account = (id) => {
  const [, tenant] = id.split('@')
  return {
    accountId: id,
    claims: () => ({ sub: id, tenant, roles: ['member'] }),
  }
}

// An interface whose access tokens only the provider can read.
const orders = { scope: 'orders', audience: 'orders-api', accessTokenFormat: 'opaque', accessTokenTTL: 300 }

const provider = new Provider(issuer, {
  clients: JSON.parse(process.env.PROVIDER_CLIENTS),
  findAccount: (_ctx, id) => account(id),
  acrValues: ['pwd', 'mfa'],
  claims: { openid: ['sub', 'tenant', 'roles', 'acr', 'amr', 'auth_time', 'sid'] },
  scopes: ['openid', 'offline_access'],
  conformIdTokenClaims: false,
  cookies: { keys: ['of a test'] },
  enabledJWA: { clientAuthSigningAlgValues: ['EdDSA', 'ES256'] },
  // Its own keeps away from loopback, where all of this happens.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientId === 'moat' },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => orders,
      useGrantedResource: () => true,
    },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (ctx, form) => {
        ctx.body = `<!doctype html><title>Sign out</title><body>${form}
          <button id="yes" type="submit" form="op.logoutForm" value="yes" name="logout">Sign out</button>`
      },
    },
  },
  extraTokenClaims: (_ctx, token) => token.accountId && account(token.accountId).claims(),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  // Nobody is asked for consent: it is one company's own gateway.
  loadExistingGrant: async (ctx) => {
    const { client, session, result } = ctx.oidc
    const known = result?.consent?.grantId || session.grantIdFor(client.clientId)
    if (known) return provider.Grant.find(known)
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope('openid offline_access')
    await grant.save()
    return grant
  },
  renderError: (ctx, out) => {
    ctx.type = 'text/plain'
    ctx.body = `provider: ${out.error}: ${out.error_description}`
  },
  ttl: { AccessToken: 300, IdToken: 300, Session: 3600, Grant: 3600, Interaction: 600, RefreshToken: 3600 },
})

provider.on('server_error', (_ctx, error) => console.error('server error', error))
provider.on('grant.error', (_ctx, error) => console.error('grant error', error.message, error.error_detail))
provider.on('backchannel.error', (_ctx, error) => console.error('back-channel error', error))
provider.on('backchannel.success', (_ctx, client) => console.log('back-channel done', client.clientId))

const escape = (text) => text.replace(/[^\w@.-]/g, '')

provider.use(async (ctx, next) => {
  const uid = ctx.path.match(/^\/interaction\/([\w-]+)$/)?.[1]
  if (!uid) return next()
  const { params } = await provider.interactionDetails(ctx.req, ctx.res)
  if (ctx.method === 'GET') {
    ctx.type = 'html'
    ctx.body = `<!doctype html><title>Provider</title><form method="post">
      <input name="user"><input name="code"><button id="enter">Sign in</button>
      <p id="asked">${escape(params.acr_values ?? 'nothing')} ${escape(String(params.max_age ?? ''))} ${escape(params.prompt ?? '')}</p>
      </form>`
    return
  }
  let text = ''
  for await (const part of ctx.req) text += part
  const form = new URLSearchParams(text)
  if (form.get('user') === 'nobody') {
    await provider.interactionFinished(ctx.req, ctx.res, { error: 'access_denied' })
  } else {
    const strong = form.get('code') === '123456'
    const login = { accountId: form.get('user'), acr: strong ? 'mfa' : 'pwd', amr: strong ? ['pwd', 'otp'] : ['pwd'] }
    await provider.interactionFinished(ctx.req, ctx.res, { login })
  }
  ctx.respond = false
})

// Access tokens for whom the environment names, as their own clients would have got them.
const resource = 'https://orders.example.com'
for (const id of (process.env.PROVIDER_TOKENS ?? '').split(' ').filter(Boolean)) {
  const client = await provider.Client.find('moat')
  const grant = new provider.Grant({ clientId: client.clientId, accountId: id })
  grant.addResourceScope(resource, 'orders')
  const token = new provider.AccessToken({ accountId: id, client, grantId: await grant.save(), gty: 'authorization_code', scope: 'orders' })
  token.resourceServer = new provider.ResourceServer(resource, orders)
  console.log(`token of ${id}: ${await token.save()}`)
}

const tls = { cert: readFileSync(process.env.PROVIDER_CERT), key: readFileSync(process.env.PROVIDER_KEY) }
createServer(tls, provider.callback()).listen(Number(process.env.PROVIDER_PORT), '127.0.0.1', () => {
  console.log(`listening at ${issuer}`)
})

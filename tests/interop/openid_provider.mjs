// A region's OpenID Provider by panva's oidc-provider, as a program: one JSON object a line in, one out.
//
// Owns: the page on which somebody signs on, and the people. oidc-provider does all of the protocol: it judges our
// requests and client assertions, demands levels, keeps sessions, signs tokens and tells us when a session ends.

import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

console.info = console.error; // its notices are not answers

let provider;
const told = { proofs: [], backchannel: [], refused: [] }; // what happened here, for the test to compare

const page = (body) => `<!doctype html><title>Sign on</title>${body}`;

async function form(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return new URLSearchParams(Buffer.concat(parts).toString());
}

// Ask for account and factor; a level that is demanded leaves no other factor to choose.
async function interaction(request, response, { people, levels }) {
  const { prompt } = await provider.interactionDetails(request, response);
  if (request.method === 'POST') {
    const { account, password, method } = Object.fromEntries(await form(request));
    if (people[account]?.password !== password) throw new Error('wrong password');
    const login = { accountId: people[account].claims.sub, acr: method, amr: levels[method], remember: true };
    told.proofs.push({ account, method, at: Math.floor(Date.now() / 1000), prompt: prompt.reasons });
    return provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
  }
  const demanded = prompt.details.acr?.values ?? Object.keys(levels);
  const options = demanded.map((level) => `<option value="${level}">${level}</option>`).join('');
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  return response.end(page(`<form method="post" action="${request.url}">
    <input name="account"><input name="password" type="password"><select name="method">${options}</select></form>`));
}

async function open({ client, people, levels, scopes }) {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const key = { ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid: 'first' };
  const server = createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = new Provider(issuer, {
    clients: [client],
    jwks: { keys: [key] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    acrValues: Object.keys(levels),
    claims: { openid: ['sub'], acr: null, amr: null, auth_time: null, iss: null, sid: null, ...scopes },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'], clientAuthSigningAlgValues: ['PS256', 'ES256'] },
    responseTypes: ['code'],
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: false },
      claimsParameter: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, logout) => {
          ctx.body = page(logout.replace('</form>', '<button name="logout" value="yes">Sign out</button></form>'));
        },
      },
    },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => Object.values(people).find((person) => person.claims.sub === sub).claims,
    }),
    // Consent is the gateway's business: whatever it asks for is granted.
    async loadExistingGrant({ oidc }) {
      const known = oidc.session.grantIdFor(oidc.client.clientId);
      if (known) return oidc.provider.Grant.find(known);
      const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope(oidc.params.scope);
      await grant.save();
      return grant;
    },
    // Everything here is on loopback, which it would not call otherwise.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  });
  provider.on('backchannel.success', (_, { clientId }, accountId, sid) => told.backchannel.push({ clientId, accountId, sid }));
  for (const event of ['authorization.error', 'grant.error', 'userinfo.error', 'end_session.error', 'server_error', 'backchannel.error']) {
    provider.on(event, (_, error) => told.refused.push(`${event}: ${error.error_detail ?? error.message}`));
  }
  const protocol = provider.callback();
  server.on('request', (request, response) => {
    if (!request.url.startsWith('/interaction/')) return protocol(request, response);
    return interaction(request, response, { people, levels }).catch((error) => {
      told.refused.push(`interaction: ${error.message}`);
      response.statusCode = 400;
      response.end(page('<p>Refused.</p>'));
    });
  });
  return { issuer };
}

const tasks = { open, told: async () => told };

for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...fields } = JSON.parse(line);
  const answer = await tasks[task](fields).then((done) => ({ done }), ({ stack }) => ({ refused: { stack } }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0); // browsers may still hold connections

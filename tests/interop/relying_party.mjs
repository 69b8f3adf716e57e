// A relying party by panva's openid-client, as a program: one JSON object a line in, one out, until its input ends.
//
// Owns: nothing of ours. openid-client finds the endpoints, makes state, nonce, verifier and proofs, and judges whatever
// comes back; jose judges logout tokens. The first line says who it is; every further one names a task.

import { createPrivateKey, webcrypto } from 'node:crypto';
import { createInterface } from 'node:readline';

import { createRemoteJWKSet, jwtVerify } from 'jose';
import * as oidc from 'openid-client';

const LOGOUT = 'http://schemas.openid.net/event/backchannel-logout';

let config; // openid-client's view of the gateway and of itself
let options = {}; // with a DPoP handle where tokens are to be bound
let asked; // what the last authorization request must be answered with

async function key(pem) {
  const der = createPrivateKey(pem).export({ format: 'der', type: 'pkcs8' });
  return webcrypto.subtle.importKey('pkcs8', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
}

const tasks = {
  // Discover the gateway. `fapi` demands what the FAPI 2.0 security profile does, `dpop` binds every token.
  async open({ issuer, client_id, pem, dpop, alg }) {
    const proof = oidc.PrivateKeyJwt(await key(pem));
    const metadata = { id_token_signed_response_alg: alg ?? 'ES256' };
    config = await oidc.discovery(new URL(issuer), client_id, metadata, proof, {
      execute: [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks],
    });
    if (dpop) options = { DPoP: oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256')) };
    return config.serverMetadata();
  },

  // Return the address to which the browser goes, by PAR where it is asked for.
  async begin({ redirect_uri, scope, par, max_age, ...more }) {
    const verifier = oidc.randomPKCECodeVerifier();
    asked = { pkceCodeVerifier: verifier, expectedState: oidc.randomState(), expectedNonce: oidc.randomNonce() };
    if (max_age !== undefined) asked.maxAge = max_age;
    const request = {
      ...more,
      redirect_uri,
      scope,
      state: asked.expectedState,
      nonce: asked.expectedNonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      ...(max_age === undefined ? {} : { max_age: String(max_age) }),
    };
    const build = par ? oidc.buildAuthorizationUrlWithPAR : oidc.buildAuthorizationUrl;
    return { url: (await build(config, request, options)).href };
  },

  // Judge the address at which the browser came back, redeem the code, judge the ID token, and ask for the person.
  async finish({ url }) {
    const tokens = await oidc.authorizationCodeGrant(config, new URL(url), asked, undefined, options);
    const claims = tokens.claims();
    const userinfo = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub, options);
    return { ...tokens, claims, userinfo };
  },

  // Any other grant: client credentials, token exchange.
  async grant({ grant_type, ...fields }) {
    return oidc.genericGrantRequest(config, grant_type, fields, options);
  },

  // Call an address of the API, with a proof where the token is bound.
  async call({ token, method, url, body, type }) {
    const headers = new Headers({ 'Content-Type': type });
    const answer = await oidc.fetchProtectedResource(config, token, new URL(url), method, body, headers, options);
    return { status: answer.status, body: await answer.json() };
  },

  async refresh({ token }) {
    const tokens = await oidc.refreshTokenGrant(config, token, undefined, options);
    return { ...tokens, claims: tokens.claims() };
  },

  async userinfo({ token, sub }) {
    return oidc.fetchUserInfo(config, token, sub, options);
  },

  async introspect({ token }) {
    return oidc.tokenIntrospection(config, token);
  },

  async revoke({ token }) {
    await oidc.tokenRevocation(config, token);
    return {};
  },

  async sign_out({ id_token, back, state }) {
    const request = { id_token_hint: id_token, post_logout_redirect_uri: back, state };
    return { url: oidc.buildEndSessionUrl(config, request).href };
  },

  // Judge a back-channel logout token (OpenID Connect Back-Channel Logout 1.0 §2.6).
  async heard({ token }) {
    const { issuer, jwks_uri } = config.serverMetadata();
    const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(jwks_uri)), {
      issuer,
      audience: config.clientMetadata().client_id,
      typ: 'logout+jwt',
      algorithms: ['ES256'],
      maxTokenAge: '2 minutes',
      requiredClaims: ['iat', 'exp', 'jti', 'events', 'sub', 'sid'],
    });
    if (typeof payload.events[LOGOUT] !== 'object' || 'nonce' in payload) throw new Error('not a logout token');
    return payload;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...fields } = JSON.parse(line);
  let answer;
  try {
    answer = { done: await tasks[task](fields) };
  } catch (refusal) {
    const { name, code, error, status, message } = refusal;
    answer = { refused: { name, code, error, status, message, cause: refusal.cause } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

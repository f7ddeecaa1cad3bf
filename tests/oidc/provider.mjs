// The provider: npm's `oidc-provider`, with two people, short-lived access tokens and refresh tokens that are used once.
import { readFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const people = {
  ada: { email: 'ada@example.test', roles: ['admin'] },
  bob: { email: 'bob@example.test', roles: ['viewer'] },
};

function signingKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'test' };
}

/** Starts a provider on `port` for the application at `app`. */
export function startProvider(port, app, secret) {
  const issuer = `https://localhost:${port}`;
  const requests = [];
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'portcullis-test',
      client_secret: secret,
      redirect_uris: [`${app}/.portcullis/callback`],
      post_logout_redirect_uris: [`${app}/sign-out`],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      id_token_signed_response_alg: 'ES256',
    }],
    jwks: { keys: [signingKey()] },
    pkce: { required: () => true },
    claims: { openid: ['sub', 'roles'], email: ['email'] },
    conformIdTokenClaims: false,
    scopes: ['openid', 'email', 'offline_access'],
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, ...people[id] }),
    }),
    rotateRefreshToken: true,
    // Without it only `prompt=consent` brings one.
    issueRefreshToken: () => true,
    ttl: { AccessToken: 12, IdToken: 300, Session: 600, Grant: 600, Interaction: 600, RefreshToken: 600 },
    cookies: { keys: [secret] },
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  });
  provider.on('server_error', (_ctx, error) => console.error('provider:', error));
  const server = createServer(
    { key: readFileSync('key.pem'), cert: readFileSync('cert.pem') },
    (request, response) => {
      requests.push(`${request.method} ${request.url.split('?')[0]}`);
      provider.callback()(request, response);
    },
  );
  return new Promise((resolve) => {
    server.listen(port, '127.0.0.1', () => resolve({ issuer, server, requests }));
  });
}

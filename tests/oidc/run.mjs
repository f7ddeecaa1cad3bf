// First URL → login → consent → back at the first URL → a page for a role → what others get → logout → refused.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import puppeteer from 'puppeteer-core';
import { startProvider } from './provider.mjs';

const gate = process.argv[2];
const secret = 'a secret of the client, with ~odd: characters';
let number = 0;
const step = (text) => console.log(`${String(++number).padStart(2)}. ${text}`);

const freePort = () => new Promise((resolve) => {
  const socket = createSocket().listen(0, '127.0.0.1', () => {
    const { port } = socket.address();
    socket.close(() => resolve(port));
  });
});

// The application says what it was told.
const seen = [];
const app = createServer((request, response) => {
  seen.push(request);
  response.setHeader('content-type', 'text/html');
  response.end(`<h1>${request.url}</h1><p id=user>${request.headers['x-user']}</p><p id=roles>${request.headers['x-roles']}</p><p id=email>${request.headers['x-email']}</p>`);
});
await new Promise((resolve) => app.listen(0, '127.0.0.1', resolve));

const [gatePort, providerPort] = [await freePort(), await freePort()];
const origin = `https://app.example.test:${gatePort}`;
const provider = await startProvider(providerPort, origin, secret);
writeFileSync('client.secret', secret);
writeFileSync('portcullis.toml', `
[admin]
socket = "admin.sock"
[access_log]
path = "access.log"
[[listener]]
address = "127.0.0.1:${gatePort}"
tls = { certificates = [{ cert = "cert.pem", key = "key.pem" }] }
[upstream.app]
servers = ["http://127.0.0.1:${app.address().port}"]
[identity.login]
oidc = { issuer = "${provider.issuer}", ca = "ca.pem", client_id = "portcullis-test", client_secret = "\${file:client.secret}", scopes = ["email", "offline_access"], roles = "roles", logout = "/sign-out", session_key = "session.key" }
[[site]]
host = ["app.example.test"]
upstream = "app"
identity = ["login"]
headers_to_upstream = { user = "X-User", roles = "X-Roles", claim."email" = "X-Email" }
  [[site.route]]
  path = "/**"
  allow = [{ auth = "any" }]
  [[site.route]]
  path = "/admin/**"
  allow = [{ role = "admin" }]
  [[site.route]]
  path = "/bills/**"
  allow = [{ role = "billing" }]
`);
const child = spawn(gate, ['run', '--config', 'portcullis.toml'], { stdio: ['ignore', 'pipe', 'pipe'] });
let said = '';
child.stdout.on('data', (text) => { said += text; });
child.stderr.on('data', (text) => { said += text; });

let browser;
try {
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: ['--no-sandbox', '--ignore-certificate-errors', '--disable-gpu', '--no-first-run',
      `--host-resolver-rules=MAP app.example.test 127.0.0.1`],
  });
  step(`${(await browser.version())}, oidc-provider ${JSON.parse(readFileSync('node_modules/oidc-provider/package.json')).version}, the gate at ${origin}`);

  // Ready when the gate knows its provider: a navigation is then sent there.
  const ask = (path, headers = {}) => new Promise((resolve, reject) => {
    const request = import('node:https').then(({ request }) => request({
      host: '127.0.0.1', port: gatePort, path, headers: { host: `app.example.test:${gatePort}`, ...headers }, rejectUnauthorized: false,
    }, (response) => { response.resume(); response.on('end', () => resolve(response)); }).on('error', reject).end());
    request.catch(reject);
  });
  const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
  for (let tries = 0; ; tries++) {
    const answer = await ask('/', navigation).catch(() => null);
    if (answer?.statusCode === 302) break;
    assert.ok(tries < 100, `the gate never knew its provider: ${answer?.statusCode}\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }

  for (const [headers, what] of [
    [{}, 'curl'],
    [{ 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', accept: 'text/html' }, "a script's fetch"],
    [{ 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe', accept: 'text/html' }, 'a frame'],
  ]) {
    const answer = await ask('/', headers);
    assert.equal(answer.statusCode, 401, what);
    assert.equal(answer.headers.location, undefined, what);
  }
  step('nobody yet: 401 for curl, for a fetch and for a frame; 302 for a navigation only');

  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const first = `${origin}/reports/2026?month=11&q=a%2Fb`;
  await page.goto(first, { waitUntil: 'networkidle0' });
  assert.equal(new URL(page.url()).origin, provider.issuer, 'sent to the provider');
  step(`${first} → ${page.url()}`);

  const submit = async () => {
    await Promise.all([page.waitForNavigation({ waitUntil: 'networkidle0' }), page.$eval('button[type=submit]', (button) => button.click())]);
  };
  await page.type('input[name=login]', 'ada');
  await page.type('input[name=password]', 'any');
  await submit();
  step(`signed in as ada → ${page.url()} (${await page.title()})`);
  await submit();
  assert.equal(page.url(), first, 'back at the first URL, letter by letter');
  const text = (selector) => page.$eval(selector, (element) => element.textContent);
  assert.equal(await text('#user'), 'ada');
  assert.equal(await text('#roles'), 'admin');
  assert.equal(await text('#email'), 'ada@example.test');
  step(`consent given → back at ${page.url()}; the application sees user ada, role admin, ada@example.test`);

  const cookies = await context.cookies();
  const session = cookies.find((cookie) => cookie.name === '__Host-portcullis');
  assert.ok(session?.httpOnly && session.secure && session.path === '/' && session.sameSite === 'Lax', JSON.stringify(cookies));
  assert.ok(!cookies.some((cookie) => cookie.name.includes('-login-') && cookie.domain.includes('app.example')), 'the login is over');
  step(`cookie ${session.name}: ${session.value.length} bytes, Secure, HttpOnly, SameSite=Lax, Path=/`);

  const admin = await page.goto(`${origin}/admin/users`);
  assert.equal(admin.status(), 200);
  const bills = await page.goto(`${origin}/bills/7`);
  assert.equal(bills.status(), 403, 'a role that ada lacks: refused, not sent to sign in again');
  assert.ok(seen.every((request) => !(request.headers.cookie ?? '').includes('portcullis')), 'the session stays here');
  step('/admin/users for role admin: 200; /bills/7 for role billing: 403; the application never sees the session cookie');

  const second = await context.newPage();
  await second.goto(`${origin}/second-tab`);
  assert.equal(second.url(), `${origin}/second-tab`);
  step('a second tab is signed in');

  const before = provider.requests.filter((line) => line === 'POST /token').length;
  // Access tokens last 12 s and are renewed 3 s before that is over.
  const patience = Date.now() + 20_000;
  let renewed = before;
  while (Date.now() < patience && renewed === before) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const answers = await second.evaluate(() => Promise.all([1, 2, 3, 4, 5, 6].map((n) => fetch(`/parallel/${n}`).then((r) => r.status))));
    assert.deepEqual(answers, [200, 200, 200, 200, 200, 200]);
    renewed = provider.requests.filter((line) => line === 'POST /token').length;
  }
  assert.equal(renewed, before + 1, 'one renewal for six requests at a time');
  const newer = (await context.cookies()).find((cookie) => cookie.name === '__Host-portcullis');
  assert.notEqual(newer.value, session.value);
  step('the access token ended: six requests at a time, all 200, one renewal at the provider, a new cookie');

  await page.goto(`${origin}/sign-out`, { waitUntil: 'networkidle0' });
  assert.equal(new URL(page.url()).origin, provider.issuer, 'sent to the provider to sign out there');
  step(`/sign-out → ${page.url().split('?')[0]} with ${[...new URL(page.url()).searchParams.keys()].join(', ')} (${await page.title()})`);
  const confirm = () => Promise.all([
    page.waitForNavigation({ waitUntil: 'networkidle0' }),
    page.$eval('button[value=yes]', (button) => button.click()),
  ]);
  await confirm();
  assert.equal(page.url().split('?')[0], `${origin}/sign-out`);
  assert.match(await text('h1'), /Signed out/);
  step(`signed out there, too → ${page.url()}: "${await text('h1')}"`);

  const after = (await context.cookies()).filter((cookie) => cookie.name.startsWith('__Host-portcullis'));
  assert.deepEqual(after, []);
  const refused = await second.evaluate(() => fetch('/admin/users').then((r) => r.status));
  assert.equal(refused, 401);
  await page.goto(`${origin}/admin/users`, { waitUntil: 'networkidle0' });
  assert.equal(new URL(page.url()).origin, provider.issuer);
  assert.ok(await page.$('input[name=login]'), 'asked for a password again');
  step('the cookie is gone; a fetch of /admin/users: 401; a navigation: the login form again');

  const stolen = await ask('/admin/users', { cookie: `${newer.name}=${newer.value}` });
  assert.equal(stolen.statusCode, 401);
  step('a copy of the old cookie: 401');

  await page.type('input[name=login]', 'bob');
  await page.type('input[name=password]', 'any');
  await submit();
  await submit();
  assert.equal(page.url(), `${origin}/admin/users`);
  assert.match(await page.content(), /403|access/i);
  step(`bob signs in → ${page.url()}: 403, he is a viewer`);

  await page.goto(`${origin}/sign-out`, { waitUntil: 'networkidle0' });
  await confirm();
  await page.goto(`${origin}/cancel-me`, { waitUntil: 'networkidle0' });
  await Promise.all([page.waitForNavigation({ waitUntil: 'networkidle0' }), page.$eval('a[href*=abort]', (link) => link.click())]);
  assert.match(await text('h1'), /Not signed in/);
  assert.ok(!(await page.content()).includes('End-User'), "none of the provider's words");
  step(`cancelled at the provider → our own page: "${await text('h1')}"`);

  const log = readFileSync('access.log', 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  const calls = log.filter((line) => line['url.path'] === '/.portcullis/callback');
  assert.ok(calls.length >= 3 && calls.every((line) => !line['url.query']), 'no code in the log');
  const whole = readFileSync('access.log', 'utf8') + said;
  for (const word of [secret, encodeURIComponent(secret), session.value, newer.value]) {
    assert.ok(!whole.includes(word), 'no secret in a log');
  }
  for (const line of log.slice(0, 400)) {
    if (['/reports/2026', '/.portcullis/callback', '/admin/users'].includes(line['url.path'])) {
      console.log('   ', line['url.path'], line['http.response.status_code'], line['policy.decision'] ?? '-', line['policy.reason'] ?? '-', line['user.id'] ?? '-', line['user.roles'] ?? '-', line['auth.source'] ?? '-', line['auth.error'] ?? '-');
    }
  }
  step('the access log tells it all, and has neither code, token, secret nor cookie');
  console.log('oidc: all steps passed');
} catch (error) {
  console.error(error);
  console.error(said);
  process.exitCode = 1;
} finally {
  await browser?.close();
  child.kill('SIGTERM');
  provider.server.closeAllConnections();
  provider.server.close();
  app.closeAllConnections();
  app.close();
}

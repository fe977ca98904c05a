// Runs the Node clients for the tests: a line of JSON for each call, and two HTTP servers, Express and Nest.
'use strict';
const { createInterface } = require('node:readline');
const { inspect } = require('node:util');
const { Redis } = require('ioredis');
const express = require('express');
const { Sessions, NotFound, FieldExists, Ended } = require('./sessions');
const api = require('./session-api');
const { identity, signedIn } = require('./identity');
const { startNest } = require('./nest');

const client = (username) => new Redis({
  host: '127.0.0.1', port: +process.env.REDIS_PORT, username, password: process.env.REDIS_PASSWORD, enableReadyCheck: false,
  commandTimeout: 1000, connectTimeout: 1000, maxRetriesPerRequest: 1,
}).on('error', () => {});
const login = new Sessions(client('login')), reader = new Sessions(client('reader'));

const calls = {
  begin: async (c) => ({ mark: await login.begin(c.user_id) }),
  create: async (c) => ({ id: await login.create(c.mark ?? null, {
    userId: c.user_id, username: c.username, roles: c.roles, address: c.address, userAgent: c.user_agent, fields: c.fields }) }),
  touch: async (c) => ({ session: told(await login.touch(c.id, ...c.names)) }),
  get: async (c) => ({ session: told(await reader.get(c.key, ...c.names)) }),
  add: async (c) => { await login.add(c.key, c.fields); return {}; },
  revoke: async (c) => ({ ended: await login.revoke(c.key) }),
  api_get: async (c) => ({ session: told(await central(c).get(c.key, ...c.names)) }),
  api_check: async (c) => {
    const answer = await central(c).check(c.id ? { id: c.id } : { key: c.key }, { anyOf: c.roles, touch: c.touch, fields: c.names });
    return answer === null ? {} : { ...answer, session: told(answer.session) };
  },
  api_check_none: async (c) => ({ allowed: await central(c).check({ id: undefined }, { anyOf: ['a'] }) !== null }),
  api_add: async (c) => { await central(c).add(c.key, c.fields); return {}; },
  api_revoke: async (c) => ({ ended: await central(c).revoke(c.key) }),
  api_revoke_user: async (c) => ({ revoked: await central(c).revokeUser(c.user_id, c.key) }),
};
const central = (c) => new api.SessionApi(c.url, process.env.TOKEN_FILE);
const told = (s) => s && {
  key: s.key, user_id: s.userId, username: s.username, roles: s.roles, expires_at: typeof s.expiresAt === 'number' ? s.expiresAt : 0, fields: s.fields,
};

function kind(error) {
  if (error instanceof NotFound || error instanceof api.NotFound) return 'not_found';
  if (error instanceof FieldExists || error instanceof api.FieldExists) return 'exists';
  if (error instanceof Ended) return 'ended';
  return error instanceof RangeError ? 'invalid' : 'unknown';
}

const app = express();
app.use(identity({ fields: ['tenant'] }));
const page = (req, res) => res.json(req.user);
app.get('/express/:kind/whoami', page);
app.get('/express/:kind/signed-in', signedIn(), page);
app.get('/express/:kind/admin', signedIn('admin'), page);
const [host, port] = process.env.HTTP_ADDR.split(':');
app.listen(+port, host);
startNest(process.env.NEST_ADDR);

(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    const call = JSON.parse(line);
    const answer = await calls[call.do](call).catch((error) => ({ error: kind(error), text: inspect(error, { depth: 9, showHidden: true }) }));
    console.log(JSON.stringify(answer));
  }
  process.exit(0);
})();

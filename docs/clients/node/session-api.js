// Coatcheck's session API by JSON over HTTP, for services that may not read Redis. Copy this file.
//
//   const api = new SessionApi('https://coatcheck-api:9003', '/run/secrets/token'); // NODE_EXTRA_CA_CERTS names your CA
//   const session = await api.get(key, 'cart'); // key: x-user-session; null: no session
//   const answer = await api.check({ key }, { anyOf: ['admin'] }); // { allowed, reason, session }, or null
//
// Only null, false and NotFound say that there is no session. Every other error says that it is unknown:
// answer 503. No error holds an ID or a value.
'use strict';
const { readFile } = require('node:fs/promises');
const http = require('node:http'), https = require('node:https');

const ID = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

class NotFound extends Error {} // the session is gone, and nothing was added
class FieldExists extends Error {} // a field is there already, and none was added
class CallFailed extends Error {} // the API does not say: a code of Connect, such as unavailable

class SessionApi {
  constructor(url, tokenFile, timeout = 1000) { Object.assign(this, { url, tokenFile, timeout }); }

  async get(key, ...fields) {
    return this.#ask('Get', { session: { key }, fields }, (answer) => sessionOf(answer.session));
  }

  // check asks for roles. By an ID, the value of the cookie, it takes the right by_id; to touch, the right touch.
  async check(name, { anyOf = [], touch = false, fields = [] }) {
    if ('id' in name && (typeof name.id !== 'string' || !ID.test(name.id))) return null; // also where there is no cookie
    return this.#ask('Check', { session: name, roles: { anyOf }, touch, fields }, (answer) => (
      { allowed: answer.allowed === true, reason: answer.reason, session: sessionOf(answer.session) }));
  }

  // add adds fields, all or none; it overwrites none, and creates no record.
  async add(key, fields) { await this.#call('AddFields', { session: { key }, fields }); }

  // revoke ends a session, and reports whether there was one.
  async revoke(key) { return await this.#ask('Revoke', { session: { key } }, () => true) ?? false; }

  // revokeUser ends all sessions of a user, or all but one, and returns how many.
  async revokeUser(userId, exceptKey) {
    const { revoked = 0 } = await this.#call('RevokeUser', { userId, ...(exceptKey && { except: { key: exceptKey } }) });
    return revoked;
  }

  async #ask(method, message, made) {
    try {
      return made(await this.#call(method, message));
    } catch (error) {
      if (error instanceof NotFound) return null;
      throw error;
    }
  }

  async #call(method, message) {
    const token = (await readFile(this.tokenFile, 'utf8')).split('\n')[0].trim(); // each time, because it rotates
    let status, answer;
    try {
      let text;
      [status, text] = await post(`${this.url}/coatcheck.sessions.v1.SessionService/${method}`, JSON.stringify(message), {
        headers: { 'Authorization': `Bearer ${token}`, 'Content-Type': 'application/json' }, signal: AbortSignal.timeout(this.timeout),
      });
      answer = JSON.parse(text);
    } catch (error) {
      throw new CallFailed(error.code ?? error.name);
    }
    if (status === 200) return answer;
    // The code and not the status: a proxy's 404 says nothing of a session.
    const code = String(answer?.code).slice(0, 40);
    throw code === 'not_found' ? new NotFound(code) : code === 'already_exists' ? new FieldExists(code) : new CallFailed(code);
  }
}

// post returns the status and the body. Not by fetch, whose time limit Node may forget while the body comes.
function post(url, body, options) {
  return new Promise((resolve, reject) => {
    const { request } = url.startsWith('https:') ? https : http;
    request(url, { method: 'POST', ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => { text += part; }).on('end', () => resolve([response.statusCode, text])).on('error', reject);
    }).on('error', reject).end(body);
  });
}

// sessionOf completes a session: what is empty is not told.
function sessionOf({ key = '', userId, username = '', roles = [], fields = {}, expiresAt }) {
  return { key, userId, username, roles, fields, expiresAt };
}

module.exports = { SessionApi, NotFound, FieldExists, CallFailed };

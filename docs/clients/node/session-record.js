// What a session's record holds: docs/sessions.md as code. sessions.js sends it to Redis.
'use strict';
const { createHash } = require('node:crypto');

// In milliseconds: session.idle_timeout and session.absolute_timeout of the checks, and a day.
const IDLE = 30 * 60_000, ABSOLUTE = 12 * 3_600_000, DAY = 24 * 3_600_000;
const STEP = Math.min(IDLE / 10, 60_000);
const CHECKED = ['v', 'user_id', 'username', 'roles', 'expires_at'];
const LIMITS = { user_id: 256, username: 256, address: 256, user_agent: 1024 };
const RESERVED = new Set([...CHECKED, ...Object.keys(LIMITS), 'created_at']);
const ID = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/; // canonical base64url of 32 bytes
const TIME = /^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

// UnknownLayout: a newer program wrote the record. Answer 503.
class UnknownLayout extends Error {}
// Broken: the record breaks the layout, and authenticates no client.
class Broken extends Error {}

// Node's own error would show what it is. Half a surrogate pair becomes U+FFFD: two users would be one.
const bytes = (text) => typeof text === 'string' && text.isWellFormed() ? Buffer.byteLength(text) : Infinity;
const isID = (text) => typeof text === 'string' && ID.test(text);
const isKey = (text) => typeof text === 'string' && text.startsWith('session:') && ID.test(text.slice(8));
const keyOf = (id) => 'session:' + createHash('sha256').update(id, 'ascii').digest('base64url');
// endOf is a time in milliseconds; NaN: there is none, or it is no day, such as February 30, which Date takes for another.
const endOf = (text) => TIME.test(text) && new Date(text.slice(0, 10)).toISOString().startsWith(text.slice(0, 10)) ? Date.parse(text) : NaN;
// slide is the end of a session that is used now: requests within a step ask for the same.
const slide = (now) => Math.ceil((now + IDLE) / STEP) * STEP;

// encode makes the record of a new session, or throws a RangeError, which names no value.
function encode({ userId, username = '', roles = [], address = '', userAgent = '', fields = {} }, now, end) {
  const texts = { user_id: userId, username, address, user_agent: userAgent };
  if (!userId || Object.entries(LIMITS).some(([name, most]) => bytes(texts[name]) > most)) {
    throw new RangeError('userId is empty, or a part of the session is no text, or too long');
  }
  if (roles.length > 256 || !roles.every((role) => role && bytes(role) <= 128)) {
    throw new RangeError('too many roles, or one that is empty or too long');
  }
  checkFields(fields);
  const record = { ...texts, ...fields, v: '1', roles: JSON.stringify(roles) };
  for (const name of Object.keys(LIMITS)) if (!record[name]) delete record[name];
  return { ...record, created_at: new Date(now).toISOString(), expires_at: new Date(end).toISOString() };
}

function checkFields(fields) {
  for (const [name, value] of Object.entries(fields)) {
    if (RESERVED.has(name) || !name || bytes(name) > 128 || /[\x00-\x1f\x7f-\x9f]/.test(name)) {
      throw new RangeError('a field has a reserved name, or one that is too long or has control characters');
    }
    if (bytes(value) > 1 << 20) throw new RangeError('a field is no text, or too long');
  }
}

// decode makes the session of the values of CHECKED, in buffers; null: there is none.
function decode(values, left, now) {
  if (left === -2 || values.every((value) => value === null)) return null;
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  if (values[0] && !['', '1'].includes(values[0].toString())) throw new UnknownLayout('unknown layout');
  try {
    const [v, userId, username, roles, expires] = values.map((value) => value === null ? null : strict.decode(value));
    const names = roles === null ? [] : JSON.parse(roles), end = endOf(expires ?? '');
    const sound = v && userId && left >= 0 && bytes(userId) <= 256 && bytes(username ?? '') <= 256 && end <= now + ABSOLUTE + DAY;
    if (!sound || !Array.isArray(names) || names.length > 256 || !names.every((n) => bytes(n) <= 128)) {
      throw new Broken();
    }
    return { userId, username: username ?? '', roles: names, expiresAt: end };
  } catch {
    throw new Broken('a record breaks the layout'); // the parser's own text has values
  }
}

module.exports = { ABSOLUTE, CHECKED, DAY, Broken, UnknownLayout, bytes, checkFields, decode, encode, isID, isKey, keyOf, slide };

// Who the user is, by the headers that Coatcheck sets: a middleware for Express. Copy this file.
//
//   app.use(identity({ fields: ['tenant'] })); // req.user: the user, or null
//   app.get('/admin', signedIn('admin'), (req, res) => res.send(req.user.name));
//
// Headers are believed, not verified: the service must be reachable through Envoy only.
'use strict';

const PREFIX = 'x-user-';

// Altered: Coatcheck does not send such headers: another program added to them. Answer 400.
class Altered extends Error {}

// decode undoes the one encoding that Coatcheck makes: visible ASCII as it is, the rest, % and "," as %XX.
function decode(value) {
  let text = '';
  try { text = decodeURIComponent(value); } catch { throw new Altered('an encoding'); }
  if (!text || text.replace(/[^!-$&-+\--~]/gu, (c) => encodeURIComponent(c)) !== value) throw new Altered('an encoding');
  return text;
}

// userOf returns the user of a request, or null. Each header comes at most once, in one spelling, never empty.
function userOf(req, fields = []) {
  const parts = new Set(['id', 'name', 'roles', 'session', ...fields]), user = { roles: [] };
  for (const [name, lines] of Object.entries(req.headersDistinct)) {
    const ours = name.replace(/[^a-z0-9]/g, '-'), part = ours.slice(PREFIX.length);
    if (!ours.startsWith(PREFIX) || !parts.has(part)) continue;
    if (ours !== name || lines.length !== 1) throw new Altered('a header');
    user[part] = part === 'roles' ? lines[0].split(',').map(decode) : decode(lines[0]);
  }
  return user.id ? user : null;
}

function refuse(res, status) {
  res.set('Cache-Control', 'no-store');
  if (status === 401) res.set('WWW-Authenticate', 'Session');
  res.status(status).end();
}

function identity({ fields = [] } = {}) {
  return (req, res, next) => {
    try { req.user = userOf(req, fields); } catch { return refuse(res, 400); }
    next();
  };
}

// signedIn lets signed-in users pass and, where roles are named, those who have one of them.
function signedIn(...roles) {
  return (req, res, next) => {
    if (!req.user) return refuse(res, 401);
    if (roles.length > 0 && !roles.some((role) => req.user.roles.includes(role))) return refuse(res, 403);
    next();
  };
}

module.exports = { identity, signedIn, userOf, Altered };

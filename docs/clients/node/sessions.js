// Coatcheck's sessions by ioredis. Copy it with session-record.js.
//
//   const sessions = new Sessions(new Redis({ username, password, enableReadyCheck: false, commandTimeout: 1000, maxRetriesPerRequest: 1 }));
//   const mark = await sessions.begin(userId); // before the account is looked at
//   const id = await sessions.create(mark, { userId, username, roles }); // for the cookie alone
//   const session = await sessions.touch(id); // null: not signed in
//
// Only null, false, NotFound and Ended say that there is no session. Every other error says that it is
// unknown: answer 503. No error holds an ID or a value.
'use strict';
const { randomBytes } = require('node:crypto');
const { ABSOLUTE, CHECKED, DAY, Broken, bytes, checkFields, decode, encode, isID, isKey, keyOf, slide } = require('./session-record');

const ADD = `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then return -1 end
end
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1`;
const PROVISIONAL = 5 * 60_000;

class NotFound extends Error {} // the session is gone, and nothing was added
class FieldExists extends Error {} // a field is there already, and none was added
class Ended extends Error {} // all sessions of the user were ended since begin: begin the login again

class Sessions {
  constructor(redis) { this.redis = redis; }

  async begin(userId) {
    if (bytes(userId) > 256) throw new RangeError('userId is no text, or too long');
    const [[mark]] = await run(this.redis.pipeline().hmget('user-ended:' + userId, 'mark'));
    return mark;
  }

  async create(mark, session) {
    const id = randomBytes(32).toString('base64url'), key = keyOf(id), now = Date.now(), end = now + ABSOLUTE;
    const until = Math.min(slide(now), end), record = encode(session, now, end);
    const index = 'user-sessions:' + session.userId, hash = key.slice('session:'.length);
    // The list first: a revocation of all must find the session.
    await run(this.redis.multi().zadd(index, end, hash).pexpireat(index, end + DAY, 'NX').pexpireat(index, end + DAY, 'GT'));
    // For a while: a write that arrives late is over when it does.
    await run(this.redis.multi().hset(key, record).pexpireat(key, Math.min(now + PROVISIONAL, until)));
    const again = this.redis.pipeline().zadd(index, end, hash).pexpireat(index, end + DAY, 'NX');
    const [, , [found]] = await run(again.hmget('user-ended:' + session.userId, 'mark'));
    if (found !== mark) {
      await this.revoke(key);
      throw new Ended('all sessions of the user were ended');
    }
    const [, left] = await run(this.redis.pipeline().pexpireat(key, until, 'GT').pttl(key));
    if (left === -2) throw new Ended('the session was ended');
    return id;
  }

  // touch returns the live session of an ID, or null. It slides its idle timeout.
  async touch(id, ...fields) { return isID(id) ? this.#read(keyOf(id), fields, true) : null; }

  // get returns the live session of a key, such as x-user-session, or null.
  async get(key, ...fields) { return isKey(key) ? this.#read(key, fields, false) : null; }

  // add adds fields, all or none; it overwrites none, and creates no record.
  async add(key, fields) {
    checkFields(fields);
    if (!await this.get(key)) throw new NotFound('no session');
    const [done] = await run(this.redis.pipeline().eval(ADD, 1, key, ...Object.entries(fields).flat()));
    if (done !== 1) throw done === -1 ? new FieldExists('a field exists') : new NotFound('no session');
  }

  // revoke ends a session, and reports whether there was one.
  async revoke(key) {
    if (!isKey(key)) return false;
    const [[userId], deleted] = await run(this.redis.pipeline().hmgetBuffer(key, 'user_id').del(key));
    if (deleted === 1 && userId) { // else a login may have listed it, to write it in a moment
      await run(this.redis.pipeline().zrem(Buffer.concat([Buffer.from('user-sessions:'), userId]), key.slice('session:'.length)));
    }
    return deleted === 1;
  }

  async #read(key, fields, use) {
    const now = Date.now(), pipeline = this.redis.pipeline();
    if (use) pipeline.pexpireat(key, slide(now), 'GT');
    try {
      const [values, left] = (await run(pipeline.hmgetBuffer(key, ...CHECKED, ...fields).pttl(key))).slice(-2);
      const session = decode(values.slice(0, CHECKED.length), left, now);
      if (session && session.expiresAt <= now) {
        if (use) await run(this.redis.pipeline().pexpireat(key, session.expiresAt, 'LT')); // Redis' clock decides when it ends
        return null;
      }
      const found = fields.map((name, i) => [name, values[CHECKED.length + i]]).filter(([, value]) => value !== null);
      return session && { ...session, key, fields: Object.fromEntries(found.map(([name, value]) => [name, value.toString()])) };
    } catch (error) {
      if (error instanceof Broken) return null; // coatcheck session verify says why
      throw error;
    }
  }
}

// run returns the replies. ioredis hangs the command, with its values, on an error: here it does not leave.
async function run(pipeline) {
  const replies = await pipeline.exec().catch((error) => { throw new Error(error.message); });
  for (const [error] of replies) {
    if (error?.message.startsWith('WRONGTYPE')) throw new Broken('no hash');
    if (error) throw new Error(error.message);
  }
  return replies.map(([, reply]) => reply);
}

module.exports = { Sessions, NotFound, FieldExists, Ended };

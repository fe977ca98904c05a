"""Coatcheck's sessions by redis-py. Copy it with session_record.py.

    client = redis.Redis(host=..., username=..., password=..., socket_timeout=1, socket_connect_timeout=1,
                         retry=Retry(NoBackoff(), 1))  # by itself, redis-py tries for most of a minute
    sessions = Sessions(client)
    mark = sessions.begin(user_id)   # before the account is looked at
    session_id = sessions.create(mark, user_id, name, roles)   # for the cookie alone
    session = sessions.touch(session_id)                       # None: not signed in

Only None, False, NotFound and Ended say that there is no session. Every other error says that it is
unknown: answer 503. No error holds an ID or a value.
"""
import secrets

from redis.exceptions import RedisError, ResponseError

from session_record import ABSOLUTE, CHECKED, DAY, ID, check_fields, clock, decode, encode, is_key, key_of, size, slide

ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then return -1 end
end
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1"""
PROVISIONAL = 5 * 60_000


class NotFound(Exception):
    """The session is gone, and nothing was added."""


class FieldExists(Exception):
    """A field is there already, and none was added."""


class Ended(Exception):
    """All sessions of the user were ended since begin: begin the login again."""


class Sessions:
    def __init__(self, redis):
        if redis.get_encoder().decode_responses:
            raise ValueError("decode_responses must be off: a record is bytes, and a broken one need not be text")
        self.redis = redis

    def begin(self, user_id):
        size(user_id)  # or redis-py's error would hold it
        return self.redis.hmget("user-ended:" + user_id, "mark")[0]

    def create(self, mark, user_id, username="", roles=(), address="", user_agent="", fields=None):
        session_id, now, index = secrets.token_urlsafe(32), clock(), "user-sessions:" + user_id
        key, end = key_of(session_id), now + ABSOLUTE
        until, listed = min(slide(now), end), {key.removeprefix("session:"): end}
        record = encode(user_id, username, roles, address, user_agent, fields or {}, now, end)
        # The list first: a revocation of all must find the session.
        run(self.redis.pipeline().zadd(index, listed).pexpireat(index, end + DAY, nx=True).pexpireat(index, end + DAY, gt=True))
        # For a while: a write that arrives late is over when it does.
        run(self.redis.pipeline().hset(key, mapping=record).pexpireat(key, min(now + PROVISIONAL, until)))
        again = self.redis.pipeline(transaction=False).zadd(index, listed).pexpireat(index, end + DAY, nx=True)
        *_, found = run(again.hmget("user-ended:" + user_id, "mark"))
        if found[0] != mark:
            self.revoke(key)
            raise Ended
        if run(self.redis.pipeline(transaction=False).pexpireat(key, until, gt=True).pttl(key))[1] == -2:
            raise Ended
        return session_id

    def touch(self, session_id, *fields):
        """The live session of an ID, or None. Slides its idle timeout."""
        return self._read(key_of(session_id), fields, True) if ID.fullmatch(session_id or "") else None

    def get(self, key, *fields):
        """The live session of a key, such as x-user-session, or None."""
        return self._read(key, fields, False) if is_key(key) else None

    def add(self, key, fields):
        """Adds fields, all or none; overwrites none, and creates no record."""
        check_fields(fields)
        if not self.get(key):
            raise NotFound
        done = self.redis.eval(ADD, 1, key, *(part for pair in fields.items() for part in pair))
        if done != 1:
            raise FieldExists if done == -1 else NotFound

    def revoke(self, key):
        """Ends a session, and reports whether there was one."""
        if not is_key(key):
            return False
        user_id = self.redis.hmget(key, "user_id")[0]
        ended = self.redis.delete(key) == 1
        if ended and user_id:  # else a login may have listed it, to write it in a moment
            self.redis.zrem(b"user-sessions:" + user_id, key.removeprefix("session:"))
        return ended

    def _read(self, key, fields, use):
        now, pipeline = clock(), self.redis.pipeline(transaction=False)
        if use:
            pipeline.pexpireat(key, slide(now), gt=True)
        try:
            *_, values, left = run(pipeline.hmget(key, *CHECKED, *fields).pttl(key))
            session = decode(values[:5], left, now)
        except (ValueError, RecursionError):
            return None  # a broken record authenticates no client; coatcheck session verify says why
        if session and session["expires_at"] <= now:
            if use:  # Redis' clock decides when it ends
                self.redis.pexpireat(key, session["expires_at"], lt=True)
            return None
        found = {name: value.decode(errors="replace") for name, value in zip(fields, values[5:]) if value is not None}
        return session and session | {"key": key, "fields": found}


def run(pipeline):
    try:
        replies = pipeline.execute(raise_on_error=False)
    except ResponseError as error:  # redis-py's text has the command, with its values
        raise ResponseError(str(error).rpartition("caused error: ")[2]) from None
    for reply in replies:
        if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
            raise ValueError("no hash")
        if isinstance(reply, RedisError):
            raise reply
    return replies

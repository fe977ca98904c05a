"""What a session's record holds: docs/sessions.md as code. sessions.py sends it to Redis."""
import base64
import hashlib
import json
import re
import time
from datetime import datetime, timezone

# In milliseconds: session.idle_timeout and session.absolute_timeout of the checks, and a day.
IDLE, ABSOLUTE, DAY = 30 * 60_000, 12 * 3_600_000, 24 * 3_600_000
STEP = min(IDLE // 10, 60_000)
CHECKED = ("v", "user_id", "username", "roles", "expires_at")
LIMITS = {"user_id": 256, "username": 256, "address": 256, "user_agent": 1024}
RESERVED = {*CHECKED, *LIMITS, "created_at"}
ID = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")  # canonical base64url of 32 bytes
TIME = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII)


class UnknownLayout(Exception):
    """A newer program wrote the record: answer 503."""


def size(text):
    """The bytes of a text. Half a surrogate pair, which JSON can bring, has none."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # it holds the text
        raise ValueError("half a surrogate pair is no text") from None


def key_of(session_id):
    digest = hashlib.sha256(session_id.encode("ascii")).digest()
    return "session:" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_key(text):
    return isinstance(text, str) and text.startswith("session:") and bool(ID.fullmatch(text[8:]))


def clock():
    return time.time_ns() // 1_000_000


def slide(now):
    """The end of a session that is used now: requests within a step ask for the same."""
    return -(-(now + IDLE) // STEP) * STEP


def encode(user_id, username, roles, address, user_agent, fields, now, end):
    """The record of a new session, or ValueError, which names no value."""
    texts = {"user_id": user_id, "username": username, "address": address, "user_agent": user_agent}
    if not user_id or any(size(texts[name]) > most for name, most in LIMITS.items()):
        raise ValueError("user_id is empty, or a part of the session is too long")
    if len(roles) > 256 or not all(0 < size(role) <= 128 for role in roles):
        raise ValueError("too many roles, or one that is empty or too long")
    check_fields(fields)
    created, expires = (datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="milliseconds") for ms in (now, end))
    return {name: text for name, text in texts.items() if text} | fields | {
        "v": "1", "roles": json.dumps(list(roles), ensure_ascii=False),
        "created_at": created.replace("+00:00", "Z"), "expires_at": expires.replace("+00:00", "Z")}


def check_fields(fields):
    for name, value in fields.items():
        if name in RESERVED or not 0 < size(name) <= 128 or re.search(r"[\x00-\x1f\x7f-\x9f]", name):
            raise ValueError("a field has a reserved name, or one that is too long or has control characters")
        if size(value) > 1 << 20:
            raise ValueError("a field is too long")


def decode(values, left, now):
    """The session in the values of CHECKED, or None; ValueError for a record that breaks the layout."""
    if left == -2 or all(value is None for value in values):
        return None
    if values[0] not in (None, b"", b"1"):
        raise UnknownLayout
    v, user_id, username, roles, expires_at = (None if value is None else value.decode() for value in values)
    names = [] if roles is None else json.loads(roles)
    if left < 0 or not v or not user_id or max(len(value or b"") for value in values[1:3]) > 256 or not TIME.fullmatch(expires_at or ""):
        raise ValueError("a required part is missing, or one is too long")
    if not isinstance(names, list) or len(names) > 256 or not all(isinstance(n, str) and size(n) <= 128 for n in names):
        raise ValueError("roles are not a JSON array of strings")
    end = round(datetime.fromisoformat(expires_at.replace("Z", "+00:00")).timestamp() * 1000)
    if end > now + ABSOLUTE + DAY:
        raise ValueError("expires_at is too far away")
    return {"user_id": user_id, "username": username or "", "roles": names, "expires_at": end}

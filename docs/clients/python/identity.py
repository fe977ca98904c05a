"""Who the user is, by the headers that Coatcheck sets: an ASGI middleware. Copy this file.

    app = Identity(app, fields=["tenant"])             # scope["user"]: the user, or None
    admin = Identity(app, required=True, roles=["admin"])

Headers are believed, not verified: the service must be reachable through Envoy only.
"""
import re
from urllib.parse import quote, unquote

PREFIX = b"x-user-"
VISIBLE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in "%,")  # what Coatcheck sends as it is


class Altered(ValueError):
    """Coatcheck does not send such headers: another program added to them."""


def decode(value):
    text = unquote(value, errors="strict")
    if not text or quote(text, safe=VISIBLE) != value:
        raise Altered
    return text


def identity(headers, fields=()):
    """The user of a request, or None. Each header comes at most once, in one spelling, never empty."""
    found = {}
    for name, value in headers:
        ours = re.sub(rb"[^a-z0-9]", b"-", name.lower())
        part = ours[len(PREFIX):].decode()
        if not ours.startswith(PREFIX) or part not in {"id", "name", "roles", "session", *fields}:
            continue
        if ours != name.lower() or part in found:
            raise Altered
        found[part] = value.decode("latin-1")
    roles = [decode(role) for role in found.pop("roles").split(",")] if "roles" in found else []
    user = {part: decode(value) for part, value in found.items()}
    return user | {"roles": roles} if "id" in user else None


class Identity:
    def __init__(self, app, fields=(), required=False, roles=()):
        self.app, self.fields, self.required, self.roles = app, fields, required or bool(roles), roles

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        try:
            user = identity(scope["headers"], self.fields)
        except ValueError:
            return await refuse(scope, send, 400)
        if self.required and user is None:
            return await refuse(scope, send, 401)
        if self.roles and not set(self.roles) & set(user["roles"]):
            return await refuse(scope, send, 403)
        await self.app({**scope, "user": user}, receive, send)


async def refuse(scope, send, status):
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008})  # the server answers 403
    headers = [(b"cache-control", b"no-store")] + [(b"www-authenticate", b"Session")] * (status == 401)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})

"""Coatcheck's session API by JSON over HTTP, for services that may not read Redis. Copy this file.

    api = SessionApi("coatcheck-api:9003", "/run/secrets/token", tls=ssl.create_default_context(cafile=...))
    session = api.get(key, "cart")                       # key: x-user-session; None: no session
    answer = api.check(key, any_of=["admin"])            # {"allowed": ..., "reason": ..., "session": ...}, or None

Only None, False and NotFound say that there is no session. Every other error says that it is unknown:
answer 503. No error holds an ID or a value.
"""
import http.client
import json
import re

ID = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")


class NotFound(Exception):
    """The session is gone, and nothing was added."""


class FieldExists(Exception):
    """A field is there already, and none was added."""


class CallFailed(Exception):
    """The API does not say: a code of Connect, such as unavailable or permission_denied."""


class SessionApi:
    def __init__(self, address, token_file, tls=None, timeout=1):
        self.address, self.token_file, self.tls, self.timeout = address, token_file, tls, timeout

    def get(self, key, *fields):
        return self._ask("Get", {"session": {"key": key}, "fields": fields}, lambda answer: session_of(answer["session"]))

    def check(self, key=None, session_id=None, any_of=(), touch=False, fields=()):
        """Asks for roles. By an ID, the value of the cookie, it takes the right by_id; to touch, the right touch."""
        if not (key if session_id is None else ID.fullmatch(session_id)):  # no cookie, or one of another program
            return None
        name = {"key": key} if session_id is None else {"id": session_id}
        return self._ask("Check", {"session": name, "roles": {"anyOf": list(any_of)}, "touch": touch, "fields": fields}, lambda answer: {
            "allowed": answer.get("allowed") is True, "reason": answer["reason"], "session": session_of(answer["session"])})

    def add(self, key, fields):
        """Adds fields, all or none; overwrites none, and creates no record."""
        self._call("AddFields", {"session": {"key": key}, "fields": fields})

    def revoke(self, key):
        """Ends a session, and reports whether there was one."""
        return self._ask("Revoke", {"session": {"key": key}}, lambda _: True) or False

    def revoke_user(self, user_id, except_key=None):
        """Ends all sessions of a user, or all but one, and returns how many."""
        but = {"except": {"key": except_key}} if except_key else {}
        return self._call("RevokeUser", {"userId": user_id, **but}).get("revoked", 0)

    def _ask(self, method, message, made):
        try:
            return made(self._call(method, message))
        except NotFound:
            return None

    def _call(self, method, message):
        with open(self.token_file) as file:  # each time, because it rotates
            headers = {"Authorization": "Bearer " + file.readline().strip(), "Content-Type": "application/json"}
        make = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = make(self.address, timeout=self.timeout, **({"context": self.tls} if self.tls else {}))
        try:
            connection.request("POST", "/coatcheck.sessions.v1.SessionService/" + method, json.dumps(message), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CallFailed(type(error).__name__) from None
        finally:
            connection.close()
        if response.status == 200:
            return answer
        code = str(answer.get("code"))[:40]  # not the status: a proxy's 404 says nothing of a session
        raise {"not_found": NotFound, "already_exists": FieldExists}.get(code, CallFailed)(code)


def session_of(told):
    """A session as it is told: what is empty is left out."""
    return {"key": told.get("key", ""), "user_id": told["userId"], "username": told.get("username", ""),
            "roles": told.get("roles", []), "fields": told.get("fields", {}), "expires_at": told["expiresAt"]}

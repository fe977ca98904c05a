"""Runs the Python clients for the tests: a line of JSON for each call, and an HTTP server behind the middleware."""
import json
import os
import ssl
import sys
import threading
import traceback

import redis
import uvicorn
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import session_api
import sessions as direct
from identity import Identity


def client(user, **options):
    return redis.Redis(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]), username=user, password=os.environ["REDIS_PASSWORD"],
                       socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1), **options)


login, reader = direct.Sessions(client("login")), direct.Sessions(client("reader"))
ERRORS = {direct.NotFound: "not_found", session_api.NotFound: "not_found", direct.FieldExists: "exists", session_api.FieldExists: "exists",
          direct.Ended: "ended", ValueError: "invalid"}


def call(c):
    scheme, _, address = c["url"].partition("://")
    tls = ssl.create_default_context(cafile=os.environ["CA_FILE"]) if scheme == "https" else None
    api = session_api.SessionApi(address, os.environ["TOKEN_FILE"], tls)
    match c["do"]:
        case "decoding":
            return {"id": direct.Sessions(client("login", decode_responses=True)).create(None, "u", "", [], "", "", {})}
        case "begin":
            mark = login.begin(c["user_id"])
            return {"mark": mark and mark.decode()}
        case "create":
            mark = c.get("mark")
            return {"id": login.create(mark and mark.encode(), c["user_id"], c["username"], c["roles"], c["address"], c["user_agent"], c["fields"])}
        case "touch":
            return {"session": told(login.touch(c["id"], *c["names"]))}
        case "get":
            return {"session": told(reader.get(c["key"], *c["names"]))}
        case "add":
            login.add(c["key"], c["fields"])
            return {}
        case "revoke":
            return {"ended": login.revoke(c["key"])}
        case "api_get":
            return {"session": told(api.get(c["key"], *c["names"]))}
        case "api_check":
            found = api.check(c["key"] or None, c["id"] or None, c["roles"], c["touch"], c["names"])
            return {**found, "session": told(found["session"])} if found else {}
        case "api_check_none":
            return {"allowed": api.check(session_id=None, any_of=["a"]) is not None}
        case "api_add":
            api.add(c["key"], c["fields"])
            return {}
        case "api_revoke":
            return {"ended": api.revoke(c["key"])}
        case "api_revoke_user":
            return {"revoked": api.revoke_user(c["user_id"], c["key"] or None)}


def told(session):
    return session and {**session, "expires_at": session["expires_at"] if isinstance(session["expires_at"], int) else 0}


def answer(line):
    try:
        return call(json.loads(line))
    except Exception as error:
        kind = next((name for type_, name in ERRORS.items() if isinstance(error, type_)), "unknown")
        return {"error": kind, "text": traceback.format_exc()}


async def page(request):
    return JSONResponse(request.scope["user"])


pages = Starlette(routes=[Route("/{rest:path}", page)])
app = Starlette(routes=[
    Route("/python/{kind}/whoami", Identity(pages, fields=["tenant"])),
    Route("/python/{kind}/signed-in", Identity(pages, fields=["tenant"], required=True)),
    Route("/python/{kind}/admin", Identity(pages, fields=["tenant"], roles=["admin"])),
])
host, port = os.environ["HTTP_ADDR"].split(":")
threading.Thread(target=uvicorn.run, args=(app,), kwargs={"host": host, "port": int(port), "log_level": "warning"}, daemon=True).start()
for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)

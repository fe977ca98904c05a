"""Werkzeug, with files before its routes, behind a proxy that it trusts."""

import threading
from urllib.parse import unquote

from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.utils import send_from_directory
from werkzeug.wrappers import Request, Response

import pages

ROUTES = Map([
    Rule("/public", endpoint="public"), Rule("/public/<path:rest>", endpoint="public"), Rule("/public/", endpoint="public"),
    Rule("/optional", endpoint="optional"), Rule("/optional/<path:rest>", endpoint="optional"), Rule("/optional/", endpoint="optional"),
    Rule("/admin", endpoint="admin"), Rule("/admin/<path:rest>", endpoint="admin"), Rule("/admin/", endpoint="admin"),
    Rule("/secret", endpoint="secret"), Rule("/secret/", endpoint="secret"),
    Rule("/api/<path:rest>", endpoint="api"),
])


@Request.application
def application(request):
    try:
        found = send_from_directory(pages.TREE, request.path.lstrip("/"), request.environ)
        found.direct_passthrough = False
        found.headers["X-Page"], found.headers["X-Method"] = found.get_data(as_text=True), request.method
        return found
    except NotFound:
        pass
    try:
        page, _ = ROUTES.bind_to_environ(request.environ).match()
    except NotFound:
        page = "other"
    except HTTPException as refusal:
        return refusal.get_response(request.environ)
    body, headers = pages.shown(page, request.method, request.path, request.environ, request.cookies.to_dict())
    return Response(body, headers=headers)


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, *_):
        pass


def twice(environ, start_response):
    """Decodes what the server has decoded, as careless applications do."""
    environ["PATH_INFO"] = unquote(environ["PATH_INFO"], "latin-1")
    return application(environ, start_response)


def serve(name, app):
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    print(f"listening {name} 127.0.0.1:{server.port}", flush=True)
    threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    serve("werkzeug", ProxyFix(application, x_prefix=1, x_host=1))
    serve("decodes-twice", twice)
    print("ready", flush=True)

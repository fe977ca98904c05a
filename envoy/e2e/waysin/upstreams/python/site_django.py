"""Django, with its own view for files before its routes."""

import secrets
import sys

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY=secrets.token_hex(), USE_X_FORWARDED_HOST=True, USE_X_FORWARDED_PORT=True,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import Http404, HttpResponse  # noqa: E402
from django.urls import re_path  # noqa: E402
from django.views import static  # noqa: E402

import pages  # noqa: E402


def page(name):
    def view(request, *_):
        try:
            response = static.serve(request, request.path_info, document_root=pages.TREE)
        except Http404:
            body, headers = pages.shown(name, request.method, request.path_info, request.META, dict(request.COOKIES))
            return HttpResponse(body, headers=headers)
        # The folder or file that was read, by what stands in it.
        content = b"".join(response.streaming_content)
        return HttpResponse(content, headers={"X-Page": content.decode(), "X-Method": request.method})

    return view


urlpatterns = [
    re_path(r"^public(/.*)?\Z", page("public")),
    re_path(r"^optional(/.*)?\Z", page("optional")),
    re_path(r"^admin(/.*)?\Z", page("admin")),
    re_path(r"^secret/?\Z", page("secret")),
    re_path(r"^api(/.*)?\Z", page("api")),
    re_path(r"(?s).*", page("other")),
]

application = get_wsgi_application()


def runserver():
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.daemon_threads = True
    WSGIRequestHandler.log_message = lambda *_: None
    WSGIRequestHandler.disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    server.set_app(application)
    print(f"listening django 127.0.0.1:{server.server_address[1]}", flush=True)
    print("ready", flush=True)
    server.serve_forever()


def gunicorn():
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):
        def load_config(self):
            options = {"bind": "127.0.0.1:0", "worker_class": "gthread", "threads": 8, "keepalive": 600, "when_ready": ready, "loglevel": "critical"}
            for key, value in options.items():
                self.cfg.set(key, value)

        def load(self):
            return application

    def ready(server):
        print(f"listening gunicorn 127.0.0.1:{server.LISTENERS[0].sock.getsockname()[1]}", flush=True)
        print("ready", flush=True)

    Server().run()


if __name__ == "__main__":
    {"runserver": runserver, "gunicorn": gunicorn}[sys.argv[1]]()

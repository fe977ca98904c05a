"""The same pages by Django and by Werkzeug: files first, then routes."""

import json
import pathlib

TREE = pathlib.Path(__file__).resolve().parent.parent / "pages"


def shown(page, method, path, environ, cookies):
    """What an answer says: headers as Python programs see them."""
    headers = {k[5:]: [v] for k, v in environ.items() if k.startswith("HTTP_")}
    body = {"page": page, "method": method, "path": path, "headers": headers, "cookies": cookies, "trailers": {}}
    body["target"] = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return json.dumps(body).encode(), {"X-Page": page, "X-Method": method, "Content-Type": "application/json"}

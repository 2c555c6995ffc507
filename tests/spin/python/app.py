"""A guest book: counts visits, keeps the last names, greets in the configured way."""

import json
import random
from urllib.parse import parse_qs, urlparse

from spin_sdk import http, key_value, variables
from spin_sdk.http import Request, Response


class IncomingHandler(http.IncomingHandler):
    """What Spin calls."""

    def handle_request(self, request: Request) -> Response:
        """One visit."""
        url = urlparse(request.uri)
        if url.path == "/forward":
            answer = http.send(Request("POST", "https://hooks.example/visit", {"x-from": "edge"}, request.body))
            return Response(answer.status, {"x-forwarded": "yes"}, answer.body)
        name = parse_qs(url.query).get("name", ["friend"])[0]
        print(f"visit of {name}")  # noqa: T201 - this is how an app logs
        with key_value.open_default() as store:
            names = [*json.loads(store.get("names") or b"[]"), name]
            store.set("names", json.dumps(names).encode())
        greeting = variables.get("greeting")
        body = {"text": f"{greeting} {name}", "visit": len(names), "lucky": random.randrange(10**9)}
        return Response(200, {"content-type": "application/json"}, json.dumps(body).encode())

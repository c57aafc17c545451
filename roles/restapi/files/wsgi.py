"""The REST API as a WSGI application, with its door; Dioptra's wheel ships neither.

All ways to the API end here: nginx, this port, the jobs of its own host. A request has been routed by then, so that no
spelling of a path is another path.
"""

import hmac
import os
import socket
from contextlib import suppress
from threading import Lock

from cachetools import TTLCache
from dioptra.restapi import create_app
from dioptra.restapi.config import config_by_name
from flask import g, request

REGISTRATION = "/api/v1/users/"
# Who is signed in may try passwords of others by changing them.
SIGN_INS = ("/api/v1/auth/login", "/api/v1/users/<int:id>/password")
SECONDS = 60
REMEMBERED = 10_000

environment = os.environ["DIOPTRA_RESTAPI_ENV"]
# Without it, each pooled connection that ended with a restart of PostgreSQL costs somebody an answer of 500.
config_by_name[environment].SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True}

app = create_app(env=environment)
is_registration_open = os.environ["MLFLEET_REGISTRATION_ENABLED"] == "true"
deployment_secret = os.environ["MLFLEET_DEPLOYMENT_SECRET"].encode()
maximum_failures = int(os.environ["MLFLEET_SIGN_IN_FAILURES_PER_MINUTE"])
failures = TTLCache(maxsize=REMEMBERED, ttl=SECONDS)
lock = Lock()


def addresses_of(names):
    for name in names:
        with suppress(OSError):
            yield from (found[4][0] for found in socket.getaddrinfo(name, None))


proxies = set(addresses_of(os.environ["MLFLEET_PROXIES"].split(",")))


def rule():
    return request.url_rule.rule if request.url_rule and request.method == "POST" else ""


def is_of_deployment():
    shown = request.headers.get("X-Mlfleet-Deployment", "")
    return hmac.compare_digest(shown.encode(), deployment_secret)


def who():
    """The address that asks, and the account whose password it gives."""
    peer = request.remote_addr
    address = request.headers.get("X-Real-IP", peer) if peer in proxies else peer
    body = request.get_json(silent=True)
    name = body.get("username") if isinstance(body, dict) else None
    return address, str(name or request.path)


@app.before_request
def refuse():
    """Nobody registers himself, and nobody guesses passwords, unless the deployment itself asks."""
    if is_of_deployment():
        return None
    if rule() == REGISTRATION and not is_registration_open:
        return {"message": "Accounts are declared in the inventory, as restapi_users_extra"}, 403
    if rule() in SIGN_INS and maximum_failures > 0:
        # As a failure, until it has succeeded: many at once are not asked before the first has failed.
        with lock:
            if failures.get(who(), 0) >= maximum_failures:
                return {"message": "Too many wrong passwords for this account; wait a minute"}, 429
            failures[who()] = failures.get(who(), 0) + 1
        g.is_counted = True
    return None


@app.after_request
def uncount(answer):
    if g.get("is_counted") and answer.status_code not in (400, 401, 403):
        with lock:
            failures[who()] = max(failures.get(who(), 0) - 1, 0)
    return answer

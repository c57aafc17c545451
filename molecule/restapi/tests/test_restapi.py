"""Dioptra's REST API answers, accepts only declared accounts, and signs its sessions with its own key."""

import pytest
import requests

PORT = 5000
ACCOUNTS = {"admin": "dioptra_admin", "dioptra-worker": "dioptra_worker"}
DOCUMENTED_KEY = "deploy123"
OPEN_SESSION = """
import sys
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

app = Flask("reader")
app.secret_key = sys.argv[1]
SecureCookieSessionInterface().get_signing_serializer(app).loads(sys.argv[2])
"""
NEWEST_REVISION = """
from importlib.util import find_spec
from pathlib import Path
from alembic.script import ScriptDirectory

package = Path(find_spec("dioptra.restapi.db").origin).parent
print(ScriptDirectory(str(package / "alembic")).get_current_head())
"""


@pytest.fixture
def python(host, in_container):
    """Run a program with the interpreter of the REST API."""
    interpreter = f"{in_container('dioptra-restapi')}/opt/mlfleet/restapi/bin/python"
    return lambda program, *words: host.run(f"{interpreter} -c %s" + " %s" * len(words), program, *words)


@pytest.fixture
def url(forward):
    return f"http://127.0.0.1:{forward(PORT)}"


@pytest.fixture
def sign_in(url):
    def ask(username, password):
        return requests.post(f"{url}/api/v1/auth/login", json={"username": username, "password": password})

    return ask


def test_health_is_told(url):
    assert requests.get(f"{url}/health").status_code == 200


def test_anonymous_is_refused(url):
    assert requests.get(f"{url}/api/v1/queues/").status_code == 401


@pytest.mark.parametrize(("username", "name"), ACCOUNTS.items())
def test_declared_account_signs_in(sign_in, secret, username, name):
    assert sign_in(username, secret(name)).status_code == 200


@pytest.mark.parametrize("username", ACCOUNTS)
def test_wrong_password_is_refused(sign_in, username):
    assert sign_in(username, "wrong-password").status_code == 401


@pytest.mark.parametrize("path", ["/api/v1/users/", "/api/v1/users/?x", "/api/v1//users/", "/api/v1/%75sers/"])
@pytest.mark.parametrize("shown", [{}, {"X-Mlfleet-Deployment": "guessed"}, {"X-Mlfleet-Deployment": ""}])
def test_nobody_registers_himself(url, path, shown):
    account = {
        "username": "eve",
        "email": "eve@example.org",
        "password": "eves-pass-word",
        "confirmPassword": "eves-pass-word",
    }
    assert requests.post(url + path, json=account, headers=shown).status_code in (403, 405)


def test_nobody_has_registered(dioptra):
    names = {account["username"] for account in dioptra("/users/").json()["data"]}
    assert ACCOUNTS.keys() <= names and "eve" not in names


def test_passwords_cannot_be_guessed_for_long(sign_in, secret):
    """Each process counts for itself; another account is let in all the while, and so is the right one for others."""
    answers = [sign_in("eve", "wrong-password").status_code for _try in range(200)]
    assert set(answers) == {401, 429} and answers[-1] == 429
    assert sign_in("admin", secret("dioptra_admin")).status_code == 200


def test_nobody_notices_a_restart_of_postgres(host, sign_in, secret):
    def statuses():
        return {sign_in("admin", secret("dioptra_admin")).status_code for _request in range(8)}

    assert statuses() == {200}
    host.check_output("systemctl restart 'postgresql@*'")
    host.check_output("timeout 30 sh -c 'until pg_isready --quiet --host localhost; do sleep 0.2; done'")
    assert statuses() == {200}


def test_sessions_are_signed_with_the_declared_key(python, sign_in, secret):
    session = sign_in("admin", secret("dioptra_admin")).cookies["session"]

    def opens(key):
        return python(OPEN_SESSION, key, session).rc == 0

    assert opens(secret("restapi_session"))
    assert not opens(DOCUMENTED_KEY)


def test_database_is_at_the_newest_revision(python, sql):
    newest = python(NEWEST_REVISION).stdout.strip()
    assert sql("restapi", "SELECT version_num FROM alembic_version") == newest


def test_only_the_loopback_listens(listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}

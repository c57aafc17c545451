"""Only pgAdmin's administrator can sign in, with the stack's databases in the tree and answers to queries."""

import re

import pytest
import requests

PORT, PAGES = 5050, 35050
EMAIL = "admin@example.org"
DATABASE = "/var/lib/mlfleet/pgadmin/pgadmin4.db"
OWNERS = {"mlflow-auth": "mlflow_auth", "mlflow-tracking": "mlflow", "restapi": "restapi"}
SIGN_OF_DEPLOYMENT = f"test -e {DATABASE}"


@pytest.fixture
def sign_in(forward, authority):
    """Sign in through nginx like a browser; return a function to query pgAdmin, or nothing if it refuses."""

    def attempt(password):
        url, session = f"https://127.0.0.1:{forward(PAGES)}", requests.Session()
        session.trust_env = False  # its authorities would take precedence over the deployment's
        session.verify, session.headers["Referer"] = authority, url
        (token,) = re.findall(r'"csrfToken": "([^"]+)"', session.get(f"{url}/login").text)
        form = {"email": EMAIL, "password": password, "csrf_token": token}
        answer = session.post(f"{url}/authenticate/login", data=form, allow_redirects=False)
        if not answer.headers["Location"].endswith("/browser/"):
            return None
        script = session.get(f"{url}/browser/js/utils.js").text
        session.headers["X-pgA-CSRFToken"] = re.search(r"csrf_token'\] = '([^']+)'", script)[1]
        return lambda method, path, **data: session.request(method, f"{url}/browser/server/{path}", data=data).json()

    return attempt


@pytest.fixture
def admin(sign_in, secret):
    return sign_in(secret("pgadmin"))


def servers(admin):
    return {server["label"]: server["_id"] for server in admin("GET", "nodes/1/")["result"]}


def by_hand(host, statement):
    program = f"import sqlite3, sys; c = sqlite3.connect('{DATABASE}'); c.execute(sys.argv[1]); c.commit()"
    host.check_output("python3 -c %s %s", program, statement)


def test_wrong_password_is_refused(sign_in):
    assert sign_in("wrong") is None


def test_password_is_tried_at_no_other_place(forward, authority):
    url = f"https://127.0.0.1:{forward(PAGES)}"
    assert requests.post(f"{url}/login", verify=authority).status_code == 403
    behind = {"X-Script-Name": "/other"}
    answer = requests.post(f"{url}/other/authenticate/login", headers=behind, verify=authority, allow_redirects=False)
    assert answer.status_code == 404


def test_who_is_signed_in_is_so_no_more_when_the_password_is_set_back(host, play, admin):
    assert servers(admin)
    by_hand(host, "UPDATE user SET password = 'x'")
    play("--tags", "pgadmin_provision")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        servers(admin)


def test_stacks_databases_are_in_the_tree(admin):
    assert servers(admin).keys() == OWNERS.keys()


@pytest.mark.parametrize("name", OWNERS)
def test_connection_asks_for_the_owners_password_and_is_verified(admin, secret, name):
    number = servers(admin)[name]
    refused = admin("POST", f"connect/1/{number}", password="wrong")
    assert "password authentication failed" in refused["result"]["errmsg"]
    admitted = admin("POST", f"connect/1/{number}", password=secret(f"postgres_{OWNERS[name]}"))
    assert admitted["data"]["connected"]
    described = admin("GET", f"obj/1/{number}")
    assert {item["name"]: item["value"] for item in described["connection_params"]}["sslmode"] == "verify-full"


def test_what_was_changed_by_hand_is_set_back(host, play, sign_in, secret):
    statements = (
        "UPDATE user SET password = 'x'",
        "UPDATE user SET locked = 1, active = 0",
        "UPDATE user SET login_attempts = 5",
        "UPDATE server SET host = '192.0.2.1' WHERE name = 'restapi'",
        "DELETE FROM server WHERE name = 'mlflow-tracking'",
        "UPDATE server SET connection_params = '{}'",
        "DELETE FROM roles_users",
    )
    for statement in statements:
        by_hand(host, statement)
    assert play("--check", "--tags", "pgadmin_provision")["changed"] == 1
    assert play("--tags", "pgadmin_provision")["changed"] == 1
    assert play("--check", "--tags", "pgadmin_provision")["changed"] == 0
    assert servers(sign_in(secret("pgadmin"))).keys() == OWNERS.keys()


def test_one_wrong_password_is_no_drift_and_ends_no_session(host, play, sign_in, secret):
    admin = sign_in(secret("pgadmin"))
    by_hand(host, "UPDATE user SET login_attempts = 1")
    assert play("--tags", "pgadmin_provision")["changed"] == 0
    by_hand(host, "UPDATE user SET locked = 1")
    assert play("--tags", "pgadmin_provision")["changed"] == 1
    assert servers(admin).keys() == OWNERS.keys()


@pytest.mark.fleet
def test_database_that_was_not_finished_is_made_anew(host, play, sign_in, secret):
    host.check_output(
        f"systemctl stop pgadmin && runuser -u pgadmin -- touch {DATABASE}.begun && truncate --size 100 {DATABASE}"
    )
    assert play("--check", "--tags", "pgadmin")["changed"] > 0
    assert play("--tags", "pgadmin")["changed"] > 0
    assert sign_in(secret("pgadmin"))


def test_only_the_loopback_listens(listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}


def test_nobody_else_reads_its_database(host):
    assert host.file(DATABASE).mode == 0o600
    assert host.file(DATABASE).user == "pgadmin"

"""pgAdmin's hashes are verified, and its account and servers compared and set in its database."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import pgadmin
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError

# From a database that pgAdmin 9.18 created for the password secret12.
PEPPER = "WdjMEV2WlHpDENm45Zap4YSftrJMhYD5B7mgknX_i40="
HASH = (
    "$pbkdf2-sha512$25000$odR6L2UMwXiPUYpxjjEGwA$"
    "zV83kFk.lbiGXJxwJLrG.klhaVzy/tWLSYQsLdBABr2624OcTLj.wr58onoyUHALHXBxTRGyOcaVdFDNAQOWfw"
)


def test_hash_that_pgadmin_made_is_known_again() -> None:
    assert pgadmin.has_password(HASH, "secret12", PEPPER)


@pytest.mark.parametrize("stored", [None, "", "plain", HASH[:-1], HASH.replace("25000", "1"), "$a$b$c$d"])
def test_other_hashes_are_of_another_password(stored: str | None) -> None:
    assert not pgadmin.has_password(stored, "secret12", PEPPER)
    assert not pgadmin.has_password(HASH, "secret13", PEPPER)


OPTIONS = {"email": "ada@example.org", "password": "secret12", "sign_in_attempts": 3}
SERVER = {"name": "mlflow", "host": "db", "port": 5432, "username": "u", "database": None, "parameters": {}}
TABLES = """
CREATE TABLE keys (name, value);
CREATE TABLE role (id INTEGER PRIMARY KEY, name);
CREATE TABLE roles_users (user_id, role_id);
CREATE TABLE user (id INTEGER PRIMARY KEY, email, username, auth_source, password, active, locked, login_attempts,
                   fs_uniquifier, UNIQUE (username, auth_source));
CREATE TABLE servergroup (id INTEGER PRIMARY KEY, user_id, name, UNIQUE (user_id, name));
CREATE TABLE server (id INTEGER PRIMARY KEY, user_id, servergroup_id, name, host, port, maintenance_db, username,
                     db_res, connection_params);
INSERT INTO keys VALUES ('SECURITY_PASSWORD_SALT', 'pepper');
INSERT INTO role VALUES (1, 'Administrator'), (2, 'User');
"""


@pytest.fixture
def options(tmp_path) -> dict:
    """Return options for a database with pgAdmin's relevant tables."""
    path = tmp_path / "pgadmin4.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
    return OPTIONS | {"database": str(path), "servers": [SERVER | {"only_its_database": False}]}


def execute(options: dict, statement: str) -> list:
    with closing(sqlite3.connect(options["database"])) as connection, connection:
        return connection.execute(statement).fetchall()


def test_account_and_servers_are_made_once(options) -> None:
    check = pgadmin.converge(options, check_mode=True)
    assert check["changes"] == ["account ada@example.org", "server mlflow"]
    assert not execute(options, "SELECT * FROM user")
    assert pgadmin.converge(options, check_mode=False) == check
    assert "secret12" not in str(check) + str(execute(options, "SELECT * FROM user"))
    assert not pgadmin.converge(options, check_mode=False)["changed"]


def test_what_differs_is_set_and_what_nobody_declared_is_told(options) -> None:
    pgadmin.converge(options, check_mode=False)
    execute(options, "UPDATE user SET login_attempts = 3")
    execute(options, "UPDATE server SET host = 'other'")
    execute(options, "INSERT INTO user (email, username, auth_source) VALUES ('m@x', 'm@x', 'internal')")
    result = pgadmin.converge(options, check_mode=False)
    assert result["diff"]["before"]["account ada@example.org"]["locked"]
    assert result["diff"]["before"]["server mlflow"]["host"] == "other"
    assert result["undeclared"] == [{"kind": "pgAdmin account", "name": "m@x", "remove": ""}]
    assert not pgadmin.converge(options, check_mode=False)["changed"]
    changed = pgadmin.converge(options | {"password": "secret13"}, check_mode=False)["diff"]
    assert changed["before"]["account ada@example.org"]["password"] == "another one"


def test_database_that_is_not_there_is_predicted_whole(tmp_path) -> None:
    options = OPTIONS | {"database": str(tmp_path / "pgadmin4.db"), "servers": []}
    assert pgadmin.converge(options, check_mode=True)["changes"] == ["account ada@example.org"]
    with pytest.raises(NotRunningError, match="start pgAdmin once"):
        pgadmin.converge(options, check_mode=False)


def test_database_that_cannot_be_read_is_one_line(options) -> None:
    execute(options, "DROP TABLE user")
    with pytest.raises(ServiceError, match=f"^{options['database']}: no such table: user$"):
        pgadmin.converge(options, check_mode=True)


def test_database_of_a_server_is_by_default_of_its_name() -> None:
    for alone, shown in ((False, None), (True, "mlflow")):
        state = pgadmin.wanted_server(SERVER | {"only_its_database": alone})
        assert (state["database"], state["databases"]) == ("mlflow", shown)

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The account and the servers in pgAdmin's own database; its commands can add them, but not compare or change them.

The tables are those of ``pgadmin/model/__init__.py`` of pgAdmin 9, and the hashes those of Flask-Security, with which
it checks passwords.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

ROUNDS = 25000
GROUP = "Servers"  # pgAdmin creates it for each account
SIGNS_IN = {"role": "Administrator", "active": True, "locked": False}
CONNECTION_KEYS = {
    "host": "host",
    "port": "port",
    "database": "maintenance_db",
    "username": "username",
    "databases": "db_res",  # those that are shown; all if it is empty
}
TIMEOUT_SECONDS = 30


def password_hash(password: str, pepper: str, salt: bytes) -> str:
    """Return the hash in passlib's C(pbkdf2_sha512) format, of the password after Flask-Security's own salting."""
    mixed = base64.b64encode(hmac.new(pepper.encode(), password.encode(), hashlib.sha512).digest())
    key = hashlib.pbkdf2_hmac("sha512", mixed, salt, ROUNDS)
    return f"$pbkdf2-sha512${ROUNDS}${_adapted(salt)}${_adapted(key)}"


def has_password(stored: str | None, password: str, pepper: str) -> bool:
    try:
        _empty, _scheme, _rounds, salt, _key = (stored or "").split("$")
        raw = base64.b64decode(salt.replace(".", "+") + "=" * (-len(salt) % 4))
    except ValueError:
        return False
    return hmac.compare_digest(stored or "", password_hash(password, pepper, raw))


def _adapted(value: bytes) -> str:
    return base64.b64encode(value).decode().rstrip("=").replace("+", ".")


def wanted_server(server: dict) -> dict:
    database = server["database"] or server["name"]
    return {
        "host": server["host"],
        "port": server["port"],
        "database": database,
        "username": server["username"],
        "databases": database if server["only_its_database"] else None,
        "parameters": server["parameters"],
    }


class Database(document.Document):
    """pgAdmin's configuration in SQLite, with one account."""

    def __init__(self, options: dict) -> None:
        self.path, self.email, self.password = (options[name] for name in ("database", "email", "password"))
        self.sign_in_attempts = options["sign_in_attempts"]
        self.servers = {server["name"]: server for server in options["servers"]}

    @cached_property
    def connection(self) -> sqlite3.Connection:
        if not Path(self.path).is_file() or Path(f"{self.path}.begun").exists():
            raise NotRunningError(f"{self.path} does not exist or is incomplete: start pgAdmin once, which creates it")
        connection = sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=TIMEOUT_SECONDS)
        connection.row_factory = sqlite3.Row
        return connection

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with closing(self.connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    @property
    def pepper(self) -> str:
        found = self.rows("SELECT value FROM keys WHERE name = 'SECURITY_PASSWORD_SALT'")
        if not found:
            raise ServiceError(f"{self.path} has no SECURITY_PASSWORD_SALT: start pgAdmin once, which creates it")
        return str(found[0]["value"])

    def _has_password(self, account: sqlite3.Row) -> bool:
        return has_password(account["password"], self.password, self.pepper)

    def accounts(self) -> list[sqlite3.Row]:
        return self.rows(
            'SELECT user.*, role.name AS role FROM "user" user LEFT JOIN roles_users ON user_id = user.id '
            "LEFT JOIN role ON role.id = role_id WHERE auth_source = 'internal' GROUP BY user.id ORDER BY user.id"
        )

    def find(self) -> document.Found:
        """Return the account with its declared servers, and other accounts.

        No command removes these; an administrator can do so in pgAdmin's pages. Servers that users have added stay.
        """
        others = [row["username"] for row in self.accounts() if row["username"] != self.email]
        undeclared = [stray("pgAdmin account", name) for name in others]
        account = self._account()
        if account is None:
            return document.Found({}, undeclared)
        found: dict[str, dict] = {
            f"account {self.email}": {
                "email": account["email"],
                "password": document.AS_DECLARED if self._has_password(account) else document.ANOTHER,
                "role": account["role"],
                "active": bool(account["active"]),
                # pgAdmin marks the account as locked only at the attempt after the last allowed one.
                "locked": account["locked"] in (1, "true", "1")
                or (account["login_attempts"] or 0) >= self.sign_in_attempts > 0,
            }
        }
        for row in self.rows("SELECT * FROM server WHERE user_id = ? ORDER BY id DESC", account["id"]):
            if row["name"] in self.servers:
                connection = {key: row[column] or None for key, column in CONNECTION_KEYS.items()}
                parameters = json.loads(row["connection_params"] or "{}") or {}
                found[f"server {row['name']}"] = {**connection, "parameters": parameters}
        return document.Found(found, undeclared)

    def compare(self, found: Mapping[str, dict]) -> Iterator[document.Change]:
        name = f"account {self.email}"
        wanted = {"email": self.email, "password": document.AS_DECLARED, **SIGNS_IN}
        yield document.Change(name, found.get(name), wanted, {})
        for name, server in self.servers.items():
            yield document.Change(f"server {name}", found.get(f"server {name}"), wanted_server(server), server)

    def apply(self, changes: list[document.Change]) -> None:
        """Make all changes or none."""
        with self.connection:
            for change in changes:
                if change.name == f"account {self.email}":
                    self._set_account()
                elif change.want:
                    self._set_server(self._account_id(), change.item["name"], change.want)

    def _account(self) -> sqlite3.Row | None:
        return next((row for row in self.accounts() if row["username"] == self.email), None)

    def _account_id(self) -> int:
        (account,) = self.rows("SELECT id FROM \"user\" WHERE username = ? AND auth_source = 'internal'", self.email)
        return int(account["id"])

    def _set_account(self) -> None:
        account = self._account()
        if account and self._has_password(account):
            stored, sessions = account["password"], account["fs_uniquifier"]
        else:
            # Sessions refer to the second one, so changing it ends them.
            stored, sessions = password_hash(self.password, self.pepper, secrets.token_bytes(16)), secrets.token_hex(16)
        self.connection.execute(
            'INSERT INTO "user" (email, username, auth_source, password, active, locked, login_attempts, '
            "fs_uniquifier) VALUES (?1, ?1, 'internal', ?2, 1, 0, 0, ?3) "
            "ON CONFLICT (username, auth_source) DO UPDATE SET "
            "email = ?1, password = ?2, active = 1, locked = 0, login_attempts = 0, fs_uniquifier = ?3",
            (self.email, stored, sessions),
        )
        number = self._account_id()
        self.connection.execute("DELETE FROM roles_users WHERE user_id = ?", (number,))
        self.connection.execute(
            "INSERT INTO roles_users (user_id, role_id) SELECT ?, id FROM role WHERE name = 'Administrator'", (number,)
        )
        self.connection.execute("INSERT OR IGNORE INTO servergroup (user_id, name) VALUES (?, ?)", (number, GROUP))

    def _set_server(self, account: int, name: str, wanted: Mapping[str, Any]) -> None:
        values = {column: wanted[key] for key, column in CONNECTION_KEYS.items()}
        values["connection_params"] = json.dumps(wanted["parameters"])
        known = self.rows("SELECT id FROM server WHERE user_id = ? AND name = ?", account, name)
        if known:
            assignments = ", ".join(f"{column} = ?" for column in values)
            self.connection.execute(f"UPDATE server SET {assignments} WHERE id = ?", (*values.values(), known[0]["id"]))
            return
        columns = ", ".join(values)
        marks = ", ".join("?" for _value in values)
        self.connection.execute(
            f"INSERT INTO server (user_id, servergroup_id, name, {columns}) "
            f"SELECT ?, MIN(id), ?, {marks} FROM servergroup WHERE user_id = ?",
            (account, name, *values.values(), account),
        )


def converge(options: dict, check_mode: bool) -> document.Result:
    database = Database(options)
    try:
        return document.converge(database, check_mode)
    except sqlite3.Error as error:
        raise ServiceError(f"{database.path}: {error}") from error

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The account and the servers in pgAdmin's own database, which its commands can add to but not compare or change.

What is declared and what is found have one shape, ``{"account EMAIL": {...}, "server NAME": {...}}``. The tables are
those of ``pgadmin/model/__init__.py`` of pgAdmin 9, and the hashes those of Flask-Security, with which it signs in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

ROUNDS = 25000
GROUP = "Servers"  # which pgAdmin makes for each account
AS_DECLARED, ANOTHER = "as declared", "another one"
CONNECTION_KEYS = {
    "host": "host",
    "port": "port",
    "database": "maintenance_db",
    "username": "username",
    "databases": "db_res",  # that are shown; all where it is empty
}
TIMEOUT_SECONDS = 30


class PgadminError(Exception):
    """pgAdmin's database is not as this needs it."""


class NotThereError(PgadminError):
    """There is no database yet."""


def password_hash(password: str, pepper: str, salt: bytes) -> str:
    """The hash as passlib's C(pbkdf2_sha512) writes it, of the password that Flask-Security has mixed with its salt."""
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


def wanted_state(email: str, servers: list[dict]) -> dict[str, dict]:
    account = {"email": email, "password": AS_DECLARED, "role": "Administrator", "active": True, "locked": False}
    return {f"account {email}": account} | {
        f"server {server['name']}": {
            "host": server["host"],
            "port": server["port"],
            "database": server["database"] or server["name"],
            "username": server["username"],
            "databases": (server["database"] or server["name"]) if server["only_its_database"] else None,
            "parameters": server["parameters"],
        }
        for server in servers
    }


class Database:
    """pgAdmin's configuration in SQLite, with the account of one person."""

    def __init__(self, path: str, email: str, password: str, sign_in_attempts: int) -> None:
        if not Path(path).is_file() or Path(f"{path}.begun").exists():
            raise NotThereError(f"{path} is not there, or not whole: start pgAdmin once, which makes it")
        self.path, self.email, self.password, self.sign_in_attempts = path, email, password, sign_in_attempts
        self.connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=TIMEOUT_SECONDS)
        self.connection.row_factory = sqlite3.Row

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.connection.close()

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with closing(self.connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    @property
    def pepper(self) -> str:
        found = self.rows("SELECT value FROM keys WHERE name = 'SECURITY_PASSWORD_SALT'")
        if not found:
            raise PgadminError(f"{self.path} holds no SECURITY_PASSWORD_SALT: start pgAdmin once, which makes it")
        return str(found[0]["value"])

    def _has_password(self, account: sqlite3.Row) -> bool:
        return has_password(account["password"], self.password, self.pepper)

    def accounts(self) -> list[sqlite3.Row]:
        return self.rows(
            'SELECT user.*, role.name AS role FROM "user" user LEFT JOIN roles_users ON user_id = user.id '
            "LEFT JOIN role ON role.id = role_id WHERE auth_source = 'internal' GROUP BY user.id ORDER BY user.id"
        )

    def found_state(self, names: set[str]) -> dict[str, dict]:
        """The account and those of its servers that have one of these names."""
        account = self._account()
        if account is None:
            return {}
        found = {
            f"account {self.email}": {
                "email": account["email"],
                "password": AS_DECLARED if self._has_password(account) else ANOTHER,
                "role": account["role"],
                "active": bool(account["active"]),
                # pgAdmin says so only at the attempt after the last one that it allows.
                "locked": account["locked"] in (1, "true", "1")
                or (account["login_attempts"] or 0) >= self.sign_in_attempts > 0,
            }
        }
        for row in self.rows("SELECT * FROM server WHERE user_id = ? ORDER BY id DESC", account["id"]):
            if row["name"] in names:
                connection = {key: row[column] or None for key, column in CONNECTION_KEYS.items()}
                parameters = json.loads(row["connection_params"] or "{}") or {}
                found[f"server {row['name']}"] = {**connection, "parameters": parameters}
        return found

    def apply(self, differing: Mapping[str, dict], servers: list[dict]) -> None:
        """Make the account and the servers that differ as declared, all of it or nothing."""
        with self.connection:
            if f"account {self.email}" in differing:
                self._set_account()
            account = self._account_id()
            for server in servers:
                if wanted := differing.get(f"server {server['name']}"):
                    self._set_server(account, server["name"], wanted)

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
            # Sessions are of the second one, so that who is signed in is so no more.
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

    def undeclared(self) -> list[dict[str, str]]:
        """Accounts besides the declared one, which no command removes but its administrator in pgAdmin's pages.

        Servers that somebody has added to the tree are theirs.
        """
        others = [row["username"] for row in self.accounts() if row["username"] != self.email]
        return [stray("pgAdmin account", name) for name in others]

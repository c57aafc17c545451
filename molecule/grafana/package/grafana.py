#!/usr/bin/python3
"""Stands in for Grafana in tests: reads what the role gives it as Grafana does, and refuses what Grafana has not."""

from __future__ import annotations

import base64
import configparser
import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
import ssl
import sys
import time
import urllib.request
from contextlib import closing
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import yaml

# Of Grafana's documentation, those that a deployment of the tests sets.
SETTINGS = {
    "analytics": "reporting_enabled check_for_updates check_for_plugin_updates feedback_links_enabled",
    "auth.anonymous": "enabled",
    "dashboards": "min_refresh_interval default_home_dashboard_path",
    "database": "type",
    "log": "mode",
    "metrics": "enabled",
    "news": "news_feed_enabled",
    "paths": "data logs plugins provisioning",
    "plugins": "plugin_admin_enabled preinstall_disabled public_key_retrieval_disabled",
    "security": "admin_user admin_password secret_key cookie_secure disable_gravatar",
    "server": "protocol http_addr http_port root_url cert_file cert_key min_tls_version",
    "smtp": "password",
    "snapshots": "external_enabled",
    "unified_alerting": "enabled",
    "users": "allow_sign_up allow_org_create",
}
DATA_SOURCE = {
    *("name", "uid", "type", "access", "url", "isDefault", "editable"),
    *("basicAuth", "basicAuthUser", "jsonData", "secureJsonData"),
}
PROVIDER = {"name", "folder", "type", "allowUiUpdates", "disableDeletion", "updateIntervalSeconds", "options"}
ADMIN = 1
WRONG_PASSWORDS, LOCKED_SECONDS = 5, 300
SESSION = "grafana_session"


def require(condition: object, message: str) -> None:
    if not condition:
        sys.exit(f"grafana: {message}")


def expanded(value: str) -> str:
    value = value.removeprefix('"""').removesuffix('"""')
    return re.sub(r"\$__file\{(.+?)\}", lambda match: Path(match[1]).read_text().strip(), value)


def read_settings(file: str, arguments: list[str]) -> dict[str, str]:
    """Return the settings by section and name; arguments take precedence."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#", ";"))
    parser.read_string(Path(file).read_text())
    found = {f"{section}.{name}": value for section in parser.sections() for name, value in parser.items(section)}
    for argument in arguments:
        match = re.fullmatch(r"cfg:(?:default\.)?(\S+?)=(.*)", argument)
        require(match, f"unknown argument {argument}")
        found[match[1]] = match[2]
    for setting in found:
        section, _dot, name = setting.rpartition(".")
        require(name in SETTINGS.get(section, "").split(), f"unknown setting {setting}")
    return {name: expanded(value) for name, value in found.items()}


def interpolated(value: object) -> object:
    if isinstance(value, dict):
        return {name: interpolated(each) for name, each in value.items()}
    return "$".join(map(os.path.expandvars, value.split("$$"))) if isinstance(value, str) else value


def provisioned(directory: str, kind: str, fields: set[str]) -> list[dict]:
    found = []
    for file in sorted(Path(directory, kind).glob("*.yml")):
        content = yaml.safe_load(file.read_text())
        require(content.pop("apiVersion") == 1, f"{file}: apiVersion is not 1")
        content.pop("prune", None)
        ((_name, entries),) = content.items()
        for entry in entries:
            require(set(entry) <= fields, f"{file}: unknown {set(entry) - fields}")
        found += entries
    return found


def read_dashboards(providers: list[dict]) -> dict[str, dict]:
    found = {}
    for provider in providers:
        for file in sorted(Path(provider["options"]["path"]).rglob("*.json")):
            dashboard = json.loads(file.read_text())
            require(dashboard["uid"] not in found, f"{file}: {dashboard['uid']} is there twice")
            numbers = [panel["id"] for panel in dashboard["panels"]]
            require(len(set(numbers)) == len(numbers), f"{file}: panels have the same id")
            found[dashboard["uid"]] = dashboard
    return found


class Database:
    """The accounts, which the server and the command share, their sessions and wrong passwords."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.path = Path(settings["paths.data"], "grafana.db")
        with closing(self.connect()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS user (id INTEGER PRIMARY KEY, login, password, is_admin)")
            connection.execute("CREATE TABLE IF NOT EXISTS user_auth_token (id INTEGER PRIMARY KEY, user_id, token)")
            connection.execute("CREATE TABLE IF NOT EXISTS login_attempt (username, created)")
            if not connection.execute("SELECT id FROM user").fetchall():
                first = (ADMIN, settings["security.admin_user"], hashed(settings["security.admin_password"]))
                connection.execute("INSERT INTO user VALUES (?, ?, ?, 1)", first)

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path)

    def users(self) -> list[dict]:
        with closing(self.connect()) as connection:
            rows = connection.execute("SELECT id, login, password, is_admin FROM user ORDER BY id").fetchall()
        return [{"id": row[0], "login": row[1], "password": row[2], "isAdmin": bool(row[3])} for row in rows]

    def set_password(self, number: int, password: str) -> None:
        with closing(self.connect()) as connection, connection:
            connection.execute("UPDATE user SET password = ? WHERE id = ?", (hashed(password), number))

    def with_password(self, login: str, password: str) -> dict | None:
        """Return the account, unless there were too many wrong passwords, of which no success takes anything back."""
        with closing(self.connect()) as connection, connection:
            recent = "SELECT count(*) FROM login_attempt WHERE username = ? AND created > ?"
            ((count,),) = connection.execute(recent, (login, time.time() - LOCKED_SECONDS))
            user = next((user for user in self.users() if user["login"] == login), None)
            if not user or count >= WRONG_PASSWORDS:
                return None
            if hmac.compare_digest(user["password"], hashed(password)):
                return user
            connection.execute("INSERT INTO login_attempt VALUES (?, ?)", (login, time.time()))
            return None

    def open_session(self, user: dict) -> str:
        token = secrets.token_hex()
        with closing(self.connect()) as connection, connection:
            connection.execute("INSERT INTO user_auth_token (user_id, token) VALUES (?, ?)", (user["id"], token))
        return token

    def sessions(self) -> list[dict]:
        with closing(self.connect()) as connection:
            rows = connection.execute("SELECT id, user_id, token FROM user_auth_token ORDER BY id").fetchall()
        return [{"id": row[0], "user_id": row[1], "token": row[2]} for row in rows]

    def close_session(self, number: int) -> None:
        with closing(self.connect()) as connection, connection:
            connection.execute("DELETE FROM user_auth_token WHERE id = ?", (number,))


def hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def proxied(source: dict, path: str) -> tuple[int, bytes]:
    """Ask a data source as Grafana would."""
    account = f"{source['basicAuthUser']}:{source['secureJsonData']['basicAuthPassword']}"
    request = urllib.request.Request(source["url"] + path)
    request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read()


def handler(database: Database, sources: dict[str, dict], dashboards: dict[str, dict]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_words: object) -> None:
            pass

        def answer(self, status: int, data: object, **headers: str) -> None:
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def account(self) -> dict | None:
            kind, _space, value = self.headers.get("Authorization", "").partition(" ")
            if kind == "Basic":
                login, _colon, password = base64.b64decode(value).decode().partition(":")
                return database.with_password(login, password)
            session = self.session()
            return next((user for user in database.users() if session and user["id"] == session["user_id"]), None)

        def session(self) -> dict | None:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(SESSION)
            return next((each for each in database.sessions() if cookie and each["token"] == cookie.value), None)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/api/health":
                self.answer(200, {"database": "ok", "version": "12.0.0"})
                return
            account = self.account()
            if not account:
                self.answer(401, {"message": "Invalid username or password"})
            elif parts.path == "/api/user":
                self.answer(200, {"id": account["id"], "login": account["login"], "isGrafanaAdmin": account["isAdmin"]})
            elif parts.path == "/api/user/auth-tokens":
                mine = [each["id"] for each in database.sessions() if each["user_id"] == account["id"]]
                active = (self.session() or {}).get("id")
                self.answer(200, [{"id": number, "isActive": number == active} for number in mine])
            elif parts.path == "/api/users":
                self.answer(200, [{key: user[key] for key in ("id", "login", "isAdmin")} for user in database.users()])
            elif parts.path == "/api/search":
                self.answer(200, [{"uid": uid, "title": each["title"]} for uid, each in dashboards.items()])
            elif match := re.fullmatch(r"/api/dashboards/uid/(.+)", parts.path):
                self.answer(200, {"dashboard": dashboards[match[1]]})
            elif match := re.fullmatch(r"/api/datasources/proxy/uid/(\w+)(/.+)", parts.path):
                self.answer(*proxied(sources[match[1]], f"{match[2]}?{parts.query}"))
            else:
                self.answer(404, {"message": "Not found"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/login":
                fields = json.loads(body)
                account = database.with_password(fields["user"], fields["password"])
            else:
                account = self.account()
            if not account:
                self.answer(401, {"message": "Invalid username or password"})
            elif self.path == "/login":
                cookie = f"{SESSION}={database.open_session(account)}; Path=/; HttpOnly"
                self.answer(200, {"message": "Logged in"}, Set_Cookie=cookie)
            elif self.path == "/api/user/revoke-auth-token":
                self.answer(*self.revoked(account, json.loads(body)["authTokenId"]))
            elif self.path == f"/api/admin/users/{account['id']}/logout":
                self.answer(400, {"message": "You cannot logout yourself"})
            else:
                self.answer(404, {"message": "Not found"})

        def revoked(self, account: dict, number: int) -> tuple[int, dict]:
            if self.headers["Content-Type"] != "application/json":
                return 400, {"message": "bad request data"}
            if not any(each["id"] == number and each["user_id"] == account["id"] for each in database.sessions()):
                return 404, {"message": "User auth token not found"}
            if (self.session() or {}).get("id") == number:
                return 400, {"message": "Cannot revoke active user auth token"}
            database.close_session(number)
            return 200, {"message": "User auth token revoked"}

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handle: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None
    ) -> None:
        self.context = context
        super().__init__(address, handle)

    def finish_request(self, request: object, client_address: object) -> None:
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)  # in the thread of the request
        super().finish_request(request, client_address)


def serve(settings: dict[str, str]) -> None:
    require(settings.get("security.secret_key"), "no secret_key")
    directory = settings["paths.provisioning"]
    sources = {entry["uid"]: interpolated(entry) for entry in provisioned(directory, "datasources", DATA_SOURCE)}
    dashboards = read_dashboards(provisioned(directory, "dashboards", PROVIDER))
    home = settings["dashboards.default_home_dashboard_path"]
    require(Path(home).is_file(), f"there is no {home}")
    context = None
    if settings["server.protocol"] == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        require(settings["server.min_tls_version"] == "TLS1.2", "min_tls_version")
        context.load_cert_chain(settings["server.cert_file"], settings["server.cert_key"])
    address = (settings["server.http_addr"], int(settings["server.http_port"]))
    Server(address, handler(Database(settings), sources, dashboards), context).serve_forever()


def main() -> None:
    command, *words = sys.argv[1:]
    options = {}
    while words and words[0].startswith("--"):
        name, equals, value = words.pop(0).removeprefix("--").partition("=")
        options[name] = value if equals else words.pop(0)
    require(options["homepath"] == "/usr/share/grafana", "homepath")
    if command == "server":
        serve(read_settings(options["config"], words))
    elif command == "cli" and words == ["admin", "reset-admin-password", "--password-from-stdin"]:
        database = Database(read_settings(options["config"], options["configOverrides"].split()))
        database.set_password(ADMIN, sys.stdin.readline().rstrip("\n"))
        print("Admin password changed successfully")
    else:
        require(False, f"unknown command {sys.argv[1:]}")


if __name__ == "__main__":
    main()

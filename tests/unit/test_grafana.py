"""Grafana's files, and its administrator, whose password only its own command replaces."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from ansible_collections.mlfleet.stack.plugins.filter import grafana as files
from ansible_collections.mlfleet.stack.plugins.module_utils import grafana
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Answer
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import checks

OPTIONS = {"url": "http://127.0.0.1:3000", "username": "admin", "password": "declared", "command": ["grafana", "cli"]}

REPOSITORY = {"grafana_repository_url": "https://apt.grafana.com", "grafana_repository_key": ""}


class Server:
    """A Grafana, with the scheme that it speaks and the password that it accepts."""

    def __init__(self) -> None:
        self.scheme, self.password = "http", "declared"
        self.users = [{"login": "admin", "isAdmin": True}, {"login": "ada", "isAdmin": False}]
        self.is_refusing = False
        self.sessions = [{"id": 361, "isActive": False}, {"id": 364, "isActive": False}]

    def signed_in(self, options: dict[str, Any]) -> Server:
        self.asked, self.given = options["url"], options["password"]
        return self

    @property
    def url(self) -> str:
        return self.asked

    def ask(self, method: str, path: str) -> Answer:
        assert (method, path) == ("GET", "/api/user")
        if not self.scheme or (self.scheme == "http" and self.asked.startswith("https:")):
            raise NotRunningError("does not answer")
        if self.scheme == "https" and self.asked.startswith("http:"):
            return Answer(400, "Client sent an HTTP request to an HTTPS server.")
        is_admitted = self.password == self.given and not self.is_refusing
        return (
            Answer(200, {"login": "admin"}) if is_admitted else Answer(401, {"message": "Invalid username or password"})
        )

    def call(self, method: str, path: str, body: Any = None, **_query: Any) -> Any:
        if (method, path) == ("POST", "/api/user/revoke-auth-token"):
            self.sessions = [session for session in self.sessions if session["id"] != body["authTokenId"]]
            return {"message": "User auth token revoked"}
        assert method == "GET"
        return {"/api/users": self.users, "/api/user/auth-tokens": self.sessions}[path]

    def command(self, words: list[str], input: str) -> subprocess.CompletedProcess[str]:  # noqa: A002
        assert words == ["grafana", "cli", "admin", "reset-admin-password", "--password-from-stdin"]
        self.password = input.removesuffix("\n")
        return subprocess.CompletedProcess(words, 0, "", "")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(grafana, "signed_in", server.signed_in)
    monkeypatch.setattr(grafana.commands, "run", server.command)
    return server


def test_declared_password_is_left_alone(server: Server) -> None:
    result = grafana.converge(OPTIONS, check_mode=False)
    assert (result["changed"], result["undeclared"]) == (False, [])


def test_another_password_is_replaced_and_its_sessions_end(server: Server) -> None:
    server.password = "another"
    check = grafana.converge(OPTIONS, check_mode=True)
    assert (check["changes"], server.password, len(server.sessions)) == (["account admin"], "another", 2)
    assert grafana.converge(OPTIONS, check_mode=False) == check
    assert (server.password, server.sessions) == ("declared", [])
    assert not grafana.converge(OPTIONS, check_mode=False)["changed"]


def test_other_administrators_are_reported(server: Server) -> None:
    server.users.append({"login": "mallory", "isAdmin": True})
    [found] = grafana.converge(OPTIONS, check_mode=True)["undeclared"]
    assert (found["kind"], found["name"]) == ("Grafana administrator", "mallory")


def test_account_that_is_locked_or_has_another_name_is_a_warning(server: Server) -> None:
    server.is_refusing = True
    check = grafana.converge(OPTIONS, check_mode=True)
    result = grafana.converge(OPTIONS, check_mode=False)
    assert (check["warnings"], check["changes"], result["changes"]) == ([], ["account admin"], ["account admin"])
    [warning] = result["warnings"]
    assert "still refuses admin" in warning and "locks an account" in warning and "rename its first account" in warning


@pytest.mark.parametrize(("former", "declared"), [("https", "http"), ("http", "https")])
def test_check_meets_it_before_its_tls_is_switched(server: Server, former: str, declared: str) -> None:
    server.scheme = former
    options = {**OPTIONS, "url": f"{declared}://127.0.0.1:3000"}
    assert not grafana.converge(options, check_mode=True)["changed"]
    with pytest.raises(ServiceError):
        grafana.converge(options, check_mode=False)


def test_check_of_a_host_without_it_predicts_the_account(server: Server) -> None:
    server.scheme = ""
    assert grafana.converge(OPTIONS, check_mode=True)["changes"] == ["account admin"]


def test_settings_are_in_their_sections() -> None:
    settings = {
        "smtp.host": "mail:25",
        "auth.anonymous.enabled": False,
        "auth.disable_login_form": True,
        "smtp.user": "a;b",
    }
    assert files.ini(settings).splitlines()[1:] == [
        *("", "[auth]", "disable_login_form = true"),
        *("", "[auth.anonymous]", "enabled = false"),
        *("", "[smtp]", "host = mail:25", 'user = """a;b"""'),
    ]


def test_secrets_are_named_by_their_files() -> None:
    [file] = files.secret_files({"smtp.password": "x"}, "/etc/x")
    assert (file["path"], file["content"], file["mode"], file["sensitive"]) == (
        "/etc/x/smtp.password",
        "x",
        "0640",
        True,
    )
    assert files.secret_references({"smtp.password": "x"}, "/etc/x") == {
        "smtp.password": "$__file{/etc/x/smtp.password}"
    }


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, []),
        ({"grafana_package_url": "https://x/y.deb", "grafana_package_sha256": "0" * 64, "grafana_image": ""}, []),
        ({"grafana_package_url": "https://x/y.deb", "grafana_package_sha256": ""}, ["grafana_package_sha256: ''"]),
        (
            {"grafana_package_url": "https://x/y.deb", "grafana_package_sha256": "0" * 64, "grafana_image": "x:1"},
            ["grafana_package_url: excludes"],
        ),
        (REPOSITORY, ["grafana_repository_key: is not the text of a key; store it by curl -o INVENTORY/grafana.asc"]),
        ({**REPOSITORY, "grafana_repository_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}, []),
        ({**REPOSITORY, "grafana_package_url": "https://x/y.deb", "grafana_package_sha256": "0" * 64}, []),
        ({**REPOSITORY, "grafana_image": "x:1", "topology_grafana_runtime": "docker"}, []),
        ({**REPOSITORY, "grafana_image": "x:1", "topology_grafana_runtime": "bare"}, ["grafana_repository_key: "]),
        ({"grafana_secret_settings": {"smtp": 1}}, ["grafana_secret_settings: smtp has no section"]),
    ],
)
def test_package_comes_from_one_place_with_its_checksum_or_key(values: dict[str, Any], lines: list[str]) -> None:
    assert [line[: len(begin)] for line, begin in zip(checks.grafana(values), lines, strict=True)] == lines


@pytest.mark.parametrize("setting", ["server.http_port", "server.protocol", "security.secret_key", "paths.data"])
def test_settings_that_others_decide_are_refused(setting: str) -> None:
    for option in ("grafana_settings", "grafana_secret_settings"):
        [line] = checks.decided_settings({option: {setting: "x"}})
        assert line.startswith(f"{option}: {setting} is ")

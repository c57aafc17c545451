# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings that a service refuses are reported before they are in place, or the previous ones are restored."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import jinja2
import pytest
from ansible_collections.mlfleet.stack.plugins.filter.unit import checker, overridden
from ansible_collections.mlfleet.stack.plugins.module_utils import dpkg, files
from ansible_collections.mlfleet.stack.plugins.module_utils.redis_live import settings
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import converge as unit
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import Unit, UnitError
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import checks

ROLES = Path(__file__).parents[2] / "roles"
ME = {"owner": str(os.geteuid()), "group": str(os.getegid())}
RUN = {
    "names": ["hello"],
    "wants": [],
    "files": [],
    "reload_files": [],
    "restart": False,
    "changed_paths": [],
    "migration": None,
}
OPTIONS = {
    "user": None,
    "tls": None,
    "reloads": False,
    "marks": [],
    "peers": None,
    "state": "present",
    "run": {**RUN, "timeout_seconds": 9, "stop_timeout_seconds": 9},
}
PROPERTIES = {
    "Id": "hello.service",
    "LoadState": "loaded",
    "SubState": "running",
    "UnitFileState": "enabled",
    "FragmentPath": "",
    "DropInPaths": "",
    "NeedDaemonReload": "no",
    "StateChangeTimestampMonotonic": "1",
}


class Systemd:
    """A unit that ends with the files that it refuses."""

    def __init__(self, file: Path, is_running: bool) -> None:
        self.file, self.is_running, self.starts, self.said = file, is_running, 0, []

    def units(self, names: list[str]) -> list[Unit]:
        state = "active" if self.is_running else "failed"
        return [Unit({**PROPERTIES, "ActiveState": state, "InactiveExitTimestampMonotonic": str(self.starts)})]

    def command(self, *words: str, timeout: float | None = None) -> str:
        self.said.append(words[1])
        if words[1] in ("start", "restart"):
            self.starts += 1
            self.is_running = self.file.read_text() != "refused"
            if not self.is_running:
                raise UnitError("job failed")
        return ""


@pytest.fixture
def converged(tmp_path, monkeypatch):
    """Return the unit's file after this content, and the outcome of changing it."""

    def converge(former: str | None, wanted: str, is_running: bool = True, reloads: bool = False):
        file = tmp_path / "hello.conf"
        if former is not None:
            file.write_text(former)
            os.utime(file, (1, 1))
        systemd = Systemd(file, is_running)

        def keep(_told, _check_mode, can_go_back):
            if reloads:
                raise UnitError("hello.service: it has not taken up its new files")
            assert can_go_back is is_running
            try:
                systemd.command("systemctl", "restart")
            except UnitError as error:
                raise UnitError(f"hello.service: did not start: {error}. Its last log lines:\nbad line 3") from None
            return {"changed": True, "actions": {}}

        monkeypatch.setattr(unit, "SETTLE_SECONDS", 0)
        for module in (unit, health):
            monkeypatch.setattr(module, "units", systemd.units)
            monkeypatch.setattr(module, "command", systemd.command)
        monkeypatch.setattr(health, "keep", keep)
        items = files.parse([{"path": str(file), "content": wanted, **ME}])
        try:
            unit.converge(items, OPTIONS, False, True)
        except UnitError as error:
            return systemd, str(error)
        return systemd, ""

    return converge


def test_refused_files_give_way_to_the_former_ones(converged):
    systemd, message = converged("good", "refused")
    assert systemd.file.read_text() == "good"
    assert systemd.file.stat().st_mtime == 1  # so that the next run has no reason to restart it
    assert systemd.is_running
    assert "daemon-reload" in systemd.said
    assert "bad line 3\nThe former files are back, and hello.service runs with them." in message
    assert list(systemd.file.parent.iterdir()) == [systemd.file]


def test_refused_reload_leaves_the_program_running(converged):
    systemd, message = converged("good", "refused", reloads=True)
    assert systemd.file.read_text() == "good"
    assert systemd.said == ["reload"]
    assert message.endswith("The former files are back, and hello.service runs with them.")


def systemd_says() -> str:
    return "hello.service: did not start: job failed. Its last log lines:\nbad line 3"


@pytest.mark.parametrize("former", [None, "good"])
def test_what_did_not_run_keeps_the_new_files(converged, former):
    systemd, message = converged(former, "refused", is_running=False)
    assert systemd.file.read_text() == "refused"
    assert message == systemd_says()


def test_accepted_files_stay(converged):
    systemd, message = converged("good", "better")
    assert (systemd.file.read_text(), message) == ("better", "")


# --- checkers --------------------------------------------------------------------------------------------------------


def test_checker_is_told_the_file_and_may_refuse_it(tmp_path):
    script = 'if grep -q "it\'s bad" "$1"; then echo "line 1: $(cat "$1")"; exit 1; fi'
    entry = {"path": str(tmp_path / "x.conf"), "validate": checker(script, "bare", "/none"), **ME}
    files.install(files.parse([{**entry, "content": "good\n"}]))
    with pytest.raises(files.FilesError, match="Its checker says: line 1: it's bad"):
        files.install(files.parse([{**entry, "content": "it's bad\n"}]), check_mode=True)


def test_checker_of_a_container_runs_in_the_image(tmp_path, monkeypatch):
    image, docker, asked = tmp_path / "image", tmp_path / "docker", tmp_path / "asked"
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{asked}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = [word.replace("%s", "/a/file") for word in shlex.split(checker('test "$1"', "docker", str(image)))]
    subprocess.run(words, check=True)
    assert not asked.exists()  # without its image, there is no program to ask yet
    image.write_text("mlfleet/hello:1\n")
    subprocess.run(words, check=True)
    told = asked.read_text().splitlines()
    assert told[-5:] == ["mlfleet/hello:1", "-c", 'test "$1"', "check", "/a/file"]
    assert "type=bind,source=/a/file,target=/a/file,readonly" in told


# --- settings --------------------------------------------------------------------------------------------------------


def rendered(role: str, template: str, **variables: object) -> str:
    environment = jinja2.Environment(trim_blocks=True)
    environment.filters |= {"mlfleet.stack.overridden": overridden, "flatten": flatten}
    return environment.from_string((ROLES / role / "templates" / template).read_text()).render(**variables)


def flatten(values: list) -> list:
    return [inner for value in values for inner in (value if isinstance(value, list) else [value])]


def test_users_setting_replaces_the_roles_once():
    own = {"maxmemory-policy": "noeviction", "appendonly": True}
    theirs = {"MaxMemory-Policy": "allkeys-lru", "save": ["900 1", "300 10"], "activerehashing": False}
    text = rendered("redis", "redis.conf.j2", __redis_settings=own, redis_settings=theirs)
    assert text.splitlines()[1:] == [
        "activerehashing no",
        "appendonly yes",
        "maxmemory-policy allkeys-lru",
        "save 900 1",
        "save 300 10",
    ]
    assert list(settings(text)) == [
        ("activerehashing", "no"),
        ("appendonly", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
    ]


def test_settings_that_redis_words_otherwise_are_not_compared():
    assert list(settings("notify-keyspace-events KEA\nmaxclients 90000\nmasterauth geheim\n")) == []


def test_value_with_a_quote_is_one_value_of_postgresql():
    own, theirs = {"work_mem": "4MB"}, {"WORK_MEM": "8MB", "application_name": r"it's \n"}
    text = rendered("postgres", "mlfleet.conf.j2", __postgres_settings=own, postgres_settings=theirs)
    assert text.splitlines()[1:] == [r"application_name = 'it''s \\n'", "work_mem = '8MB'"]


@pytest.mark.parametrize(
    ("option", "name", "line"),
    [
        ("postgres_settings", "Port", "Port is set by topology_postgres_port"),
        ("postgres_settings", "ssl_cert_file", "ssl_cert_file is set by topology_postgres_tls_mode"),
        ("postgres_settings", "hba_file", "hba_file is the deployment's own; leave it out"),
        ("redis_settings", "tls-port", "tls-port is set by topology_redis_tls_mode"),
        ("redis_settings", "dir", "dir is the deployment's own; leave it out"),
        ("restapi_gunicorn_settings", "bind", "bind is set by restapi_listen_address, topology_restapi_port"),
        ("minio_environment", "MINIO_ROOT_USER", "MINIO_ROOT_USER is set by topology_minio_root_user"),
    ],
)
def test_what_the_deployment_decides_is_no_setting(option, name, line):
    assert list(checks.decided_settings({option: {name: "x", "maxclients": "1"}})) == [f"{option}: {line}"]


# --- packages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bash:amd64", "bash=5.2", "bash/bookworm", "bash-", "-bash", "Bash", ""])
def test_package_is_a_plain_name(name):
    [line] = checks.packages({"host_packages_extra": ["g++", "bash", name]})
    assert line.startswith(f"host_packages_extra: {name!r} is not a plain package name")


def test_package_that_another_one_stands_for_is_not_missing(monkeypatch):
    listed = "installed awk, editor:any (= 1)\ninstalled \nconfig-files gone\n"
    monkeypatch.setattr(dpkg, "run", lambda *_words, **_options: subprocess.CompletedProcess([], 0, listed))
    assert dpkg.missing(["awk", "editor", "gone", "bash"], {"bash": ("install", "installed")}) == ["gone"]

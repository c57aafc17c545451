"""A host that has reported its installed packages in this run is not asked again."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.plugins.action import normal
from ansible_collections.mlfleet.stack.plugins.action import packages
from ansible_collections.mlfleet.stack.plugins.module_utils import dpkg
from ansible_collections.mlfleet.stack.plugins.plugin_utils import deb


@pytest.fixture
def ask(monkeypatch):
    """Return the action's result for these names, given what is known about the host."""
    monkeypatch.setattr(normal.ActionModule, "run", lambda _self, _tmp, _task_vars: {"changed": "asked"})

    def run(names, told="nginx mawk", delegate_to=None):
        action = object.__new__(packages.ActionModule)
        action._task = SimpleNamespace(args={"name": names}, delegate_to=delegate_to)
        facts = {"site_facts": {"ansible_facts": {"ansible_installed_packages": told}}}
        return action.run(None, facts if told is not None else {})["changed"]

    return run


def test_what_is_installed_is_not_asked_for_again(ask):
    assert ask(["nginx"]) is False
    assert ask(["nginx", "mawk"]) is False


@pytest.mark.parametrize(
    "words",
    [
        {"names": ["nginx", "awk"]},
        {"names": ["nginx"], "told": None},
        {"names": ["nginx"], "told": ""},
        {"names": ["nginx"], "delegate_to": "other"},
        {"names": "nginx"},
    ],
)
def test_host_is_asked_for_all_else(ask, words):
    assert ask(**words) == "asked"


@pytest.mark.parametrize(
    ("lists", "age_seconds", "are_new"),
    [
        (["deb_Packages"], 0, True),
        (["deb_Packages"], 700, False),
        (["deb_Packages"], -60, False),
        ([], 0, False),
        (None, 0, False),
    ],
)
def test_package_lists_are_new(tmp_path, monkeypatch, lists, age_seconds, are_new):
    monkeypatch.setattr(dpkg, "LISTS", tmp_path / "lists")
    if lists is not None:
        dpkg.LISTS.mkdir()
        for name in lists:
            (dpkg.LISTS / name).touch()
        os.utime(dpkg.LISTS, (time.time() - age_seconds,) * 2)
    assert dpkg.lists_are_new(600) is are_new


PACKAGE = """\
Package: {name}
Status: install ok installed
Essential: {is_essential}
Maintainer: nobody
Architecture: {architecture}
Version: 1
Depends: {needed}
Description: one

"""


def test_package_that_others_need_is_not_removed(tmp_path, monkeypatch):
    """By dpkg itself: python3 has a user besides, and the two of the server need each other only."""
    needs = {"python3": "", "tool": "python3", "server": "server-common", "server-common": "", "base": ""}
    rows = {
        name: {"needed": needed, "is_essential": "yes" if name == "base" else "no"} for name, needed in needs.items()
    }
    texts = [PACKAGE.format(name=name, architecture="all", **row) for name, row in rows.items()]
    (tmp_path / "status").write_text("".join(texts).replace("Depends: \n", ""))
    for name in ("info", "updates", "triggers"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    assert dpkg.removable(["python3", "server-common", "server", "base"]) == ["server-common", "server"]
    assert dpkg.removable(["python3", "tool"]) == ["python3", "tool"]
    assert dpkg.removable(["server-common"]) == []


def test_units_that_packages_bring(tmp_path, monkeypatch):
    (tmp_path / "status").write_text(PACKAGE.format(name="one", architecture="all", is_essential="no", needed="two"))
    (tmp_path / "updates").mkdir()
    (tmp_path / "info").mkdir()
    (tmp_path / "info/format").write_text("1\n")
    system = "/usr/lib/systemd/system"
    paths = [f"{system}/one.socket", f"{system}/one@.service", f"{system}/two.service.d/one.conf", "/lib/systemd/x.y"]
    (tmp_path / "info/one.list").write_text("".join(f"{path}\n" for path in ["/.", "/lib", *paths]))
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    assert dpkg.units(["one"]) == ["one.socket", "one@.service"]


def make_package(path, name="grafana", version="1.2-3", magic=b"!<arch>\n", compression="xz"):
    """Write a file of a package, without its own files."""
    control, packed = f"Package: {name}\nVersion: {version}\nDescription: one\n more\n".encode(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:
        entry = tarfile.TarInfo("./control")
        entry.size = len(control)
        archive.addfile(entry, io.BytesIO(control))
    members = {"debian-binary": b"2.0\n", f"control.tar.{compression}": packed.getvalue()}
    text = magic
    for member, content in members.items():
        text += (
            f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    path.write_bytes(text)
    return str(path)


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_version_of_a_packages_file_is_read(tmp_path, compression):
    assert deb.version(make_package(tmp_path / "x.deb", compression=compression), "grafana") == "1.2-3"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"magic": b"!<nope>\n"}, "is no Debian package"),
        ({"name": "other"}, "is package other, not grafana"),
        ({"compression": ""}, "control file cannot be read"),
    ],
)
def test_file_that_is_not_the_package_is_refused(tmp_path, options, line):
    path = make_package(tmp_path / "x.deb", **options)
    if options.get("compression") == "":
        Path(path).write_bytes(Path(path).read_bytes().replace(b"control.tar", b"nothing.tar"))
    with pytest.raises(deb.DebError, match=line):
        deb.version(path, "grafana")


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(deb.DebError, match="No such file"):
        deb.version(str(tmp_path / "none.deb"), "grafana")


@pytest.mark.parametrize(("installed", "is_sent", "is_check", "changed"), [
    (["grafana"], True, False, True),
    (["grafana"], False, True, True),
    ([], False, False, False),
])  # fmt: skip
def test_file_of_a_package_is_sent_only_if_it_differs(tmp_path, monkeypatch, installed, is_sent, is_check, changed):
    file, calls, told = make_package(tmp_path / "x.deb"), [], {}

    def execute(_self, _module, options, task_vars):
        calls.append(dict(options))
        return {"changed": bool(installed), "installed": installed}

    monkeypatch.setattr(packages.ActionModule, "_execute_module", execute)
    monkeypatch.setattr(packages.ActionModule, "_transfer_file", lambda _self, _from, to: to)
    monkeypatch.setattr(
        packages.ActionModule,
        "_tell",
        lambda _self, found, _vars, *names, **_more: told.update(dict.fromkeys(names)) or found,
    )
    action = object.__new__(packages.ActionModule)
    shell = SimpleNamespace(tmpdir="/tmp/x", join_path=lambda *parts: "/".join(parts))
    action._connection = SimpleNamespace(_shell=shell)
    action._task = SimpleNamespace(
        args={"name": ["grafana"], "files": {"grafana": file}}, delegate_to=None, check_mode=is_check
    )
    result = action.run(None, {"inventory_hostname": "h"})
    assert result["changed"] is changed
    assert [call["files"] for call in calls] == [{}, {"grafana": "/tmp/x/grafana.deb"}][: 1 + is_sent]
    assert list(told) == ["/var/lib/dpkg/info/grafana.list"]
    assert {call["versions"]["grafana"] for call in calls} == {"1.2-3"}

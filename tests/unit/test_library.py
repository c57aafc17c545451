"""Hosts keep the code of our modules, and run none that another user could have written."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.mlfleet.stack.plugins.action.library_module import ActionModule
from ansible_collections.mlfleet.stack.plugins.plugin_utils import library

ROOT = Path(__file__).parents[2]
ANSWER = {"changed": False, "unreadable": {}}
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can install the library")


def run(directory: Path, digest: str = "a", where: Path | None = None, **more: Any) -> dict[str, Any]:
    """Return a host's answer to the module that ansible-core builds from the stub: the answer of mount_sources."""
    call = {
        "module": f"{library.COLLECTION}.plugins.modules.mount_sources",
        "arguments": {"directories": [], "user": 'three """ quotes \\'},
        "directory": str(directory),
        "digest": digest,
        **more,
    }
    variables = {"ansible_python_interpreter": sys.executable}
    built = modify_module(
        module_name=library.STUB,
        module_path=str(ROOT / "plugins/modules/library_module.py"),
        module_args=call,
        templar=Templar(loader=DataLoader(), variables=variables),
        task_vars=variables,
    )
    assert (built.module_style, built.shebang) == ("new", f"#!{sys.executable}")
    # Without the packages installed here, above all ansible-core.
    words = [sys.executable, "-S", "-"]
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(
        words, input=built.b_module_data, stdout=subprocess.PIPE, check=False, cwd=where or "/", env=environment
    )
    answer = json.loads(ended.stdout)
    answer.pop("invocation", None)
    return answer


def installed(directory: Path, digest: str = "a") -> Path:
    assert run(directory, digest, sources=library.packed(), install=True) == ANSWER
    (file,) = directory.glob(f"{digest}-*")
    return file


@as_root
def test_library_is_installed_once_and_then_needs_no_code(tmp_path: Path) -> None:
    directory = tmp_path / "modules"
    assert run(directory) == {"library_misses": "absent"}
    assert installed(directory).stat().st_mode & 0o777 == 0o644
    assert run(directory) == ANSWER


def test_modules_of_the_directory_that_it_is_started_in_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "base64.py").write_text("raise SystemExit('run')")
    assert run(tmp_path / "modules", where=tmp_path, sources=library.packed(), install=False) == ANSWER


@as_root
def test_library_is_readable_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        assert installed(tmp_path / "modules").parent.stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(former)


def test_check_installs_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "modules"
    assert run(directory, sources=library.packed(), install=False) == ANSWER
    assert not directory.exists()


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)


def link(file: Path) -> None:
    file.symlink_to(file.rename(file.with_name("b")))


@as_root
@pytest.mark.parametrize(
    "change",
    [
        flip,
        link,
        lambda file: file.chmod(0o666),
        lambda file: os.chown(file, NOBODY, 0),
        lambda file: os.truncate(file, 9),
    ],
    ids=["one byte", "link", "writable", "owner", "cut off"],
)
def test_changed_library_is_not_run_and_installed_anew(tmp_path: Path, change: Callable[[Path], None]) -> None:
    change(installed(tmp_path))
    assert run(tmp_path) == {"library_misses": "changed"}
    installed(tmp_path)
    assert run(tmp_path) == ANSWER


@as_root
def test_other_versions_of_the_library_are_kept_for_other_controllers(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e"]
    for number, digest in enumerate(names):
        os.utime(installed(tmp_path, digest), (number, number))
    assert run(tmp_path, "b") == ANSWER
    assert {file.name[0] for file in tmp_path.iterdir()} == {"b", "c", "d", "e"}


@as_root
def test_host_without_a_place_for_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "modules", sources=library.packed(), install=True) == ANSWER


@as_root
def test_disk_that_is_full_keeps_no_part_of_it(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        assert run(tmp_path / "modules", sources=library.packed(), install=True) == ANSWER
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list((tmp_path / "modules").iterdir())


@pytest.mark.parametrize(
    ("check_mode", "arguments", "installs"), [(False, {}, True), (True, {}, False), (False, {"check": True}, False)]
)
@pytest.mark.parametrize("why", ["absent", "changed"])
def test_code_goes_with_a_task_that_misses_it(
    monkeypatch: pytest.MonkeyPatch, why: str, check_mode: bool, arguments: dict[str, Any], installs: bool
) -> None:
    calls: list[dict[str, Any]] = []

    def execute(self: ActionBase, name: str, call: dict[str, Any], **_more: Any) -> dict[str, Any]:
        assert name == library.STUB
        calls.append(call)
        return ANSWER if "sources" in call else {"library_misses": why}

    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    monkeypatch.setattr(context, "CLIARGS", arguments)
    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(action="mlfleet.stack.packages", args={"name": []}, check_mode=check_mode)
    warnings: list[str] = []
    action._display = SimpleNamespace(warning=warnings.append)
    assert action._execute_module(task_vars={}) == ANSWER
    first, second = calls
    assert first["module"].endswith(".modules.packages") and first["arguments"] == {"name": []}
    assert (second["install"], second["changed"]) == (installs, why == "changed")
    assert bool(warnings) == (installs and why == "changed")


def test_module_that_breaks_is_told_as_failed(tmp_path: Path) -> None:
    answer = run(
        tmp_path, sources=library.packed(), install=False, module=f"{library.COLLECTION}.plugins.modules.nonesuch"
    )
    assert answer["failed"]
    assert "nonesuch" in answer["msg"]


def test_each_module_has_an_action_that_runs_it_from_the_library() -> None:
    modules, actions = (
        {file.stem for file in (ROOT / "plugins" / kind).glob("*.py")} for kind in ("modules", "action")
    )
    assert actions >= modules
    for name in actions:
        action = importlib.import_module(f"{library.COLLECTION}.plugins.action.{name}").ActionModule
        assert issubclass(action, library.LibraryActionBase), name

"""Hosts keep the code of our modules, and run none that somebody else could have written."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlfleet.stack.plugins.plugin_utils import library

ROOT = Path(__file__).parents[2]
ANSWER = {"changed": False, "unreadable": {}}
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can install the library")


def run(directory: Path, digest: str = "a", **more: Any) -> dict[str, Any]:
    """What a host answers to the module that ansible-core makes of the stub: the answer of mount_sources."""
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
    # Without what is installed here: ansible-core, above all.
    words = [sys.executable, "-I", "-S", "-"]
    ended = subprocess.run(words, input=built.b_module_data, stdout=subprocess.PIPE, check=False, cwd="/")
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

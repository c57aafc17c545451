#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_venv
short_description: Manage a virtual environment at its pinned versions
description:
  - Creates a virtual environment with exactly the given pinned packages, with C(uv).
  - Installs C(uv) itself first if it is missing or has another version.
  - If nothing changes, it compares the installed packages with the pins and uses no package index.
  - A change creates another environment beside the one in use, in a separate tree, and then makes O(path) a link to it.
    Until then the previous one is not touched.
  - Its files are hard links to those in C(uv)'s cache if that is on the same file system, so a second environment takes
    little space.
  - A previous environment is removed when no process uses it any more, which does not count as a change.
  - An environment that is incomplete, or whose Python is missing, is rebuilt.
  - Bytecode is compiled at installation, since services may not write into their environment.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  path:
    description: Path of the virtual environment, a link to a directory beside it.
    type: path
    required: true
  requirements:
    description: Text of a requirements file with a pinned version for every package, as C(uv pip compile) writes it.
    type: str
    required: true
  python:
    description: Interpreter of the environment.
    type: path
    default: /usr/bin/python3
  uv_path:
    description: Directory of the virtual environment for C(uv), created with Debian's Python and C(python3-venv).
    type: path
    default: /opt/mlfleet/uv
  uv_requirement:
    description: Pinned requirement of C(uv), such as V(uv==0.13.9).
    type: str
    required: true
  index_url:
    description: Package index to use instead of PyPI. Never shown, because it may contain a password.
    type: str
  extra_index_urls:
    description:
      - Additional package indexes, which take precedence. Never shown either.
      - A version that they lack comes from O(index_url), even if they have other versions of the package.
    type: list
    elements: str
    default: []
  compiler:
    description:
      - Text of a Python program to compile the packages with, instead of C(uv), which compiles every package each time.
      - The Python of the environment runs it with one argument, a directory in C(uv)'s cache where it can keep files.
    type: str
  stop_units:
    description:
      - Units (names or patterns) to stop before the environment is replaced, such as workers whose jobs import from it.
      - They keep running until the new one is complete. The caller must start them again.
    type: list
    elements: str
    default: []
  stop_timeout_seconds:
    description: Timeout for these units to stop.
    type: int
    default: 90
extends_documentation_fragment: mlfleet.stack.trial
notes:
  - Certificates and cache are read from the environment, as C(uv) and C(pip) do; set it with the task keyword
    C(environment).
attributes:
  check_mode:
    description: Predicts the changes; for an environment that does not exist yet it lists the pins.
    support: full
  diff_mode:
    description: Lists packages as removed and added.
    support: full
"""

EXAMPLES = r"""
- name: Install the tools that talk to MinIO
  mlfleet.stack.python_venv:
    path: /opt/mlfleet/tools
    requirements: "{{ lookup('ansible.builtin.file', 'constraints/tools.txt') }}"
    uv_requirement: "{{ lookup('ansible.builtin.file', 'constraints/uv.txt') }}"
"""

RETURN = r"""
usable:
  description: Whether the environment exists and is complete when the module ends; false in a check of a fresh host.
  returned: always
  type: bool
stamp:
  description: File whose modification time is that of the last change to the environment.
  returned: always
  type: str
  sample: /opt/mlfleet/tools/.installed
"""

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils import environments, interpreters, trials
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import WORK_SECONDS
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run as program
from ansible_collections.mlfleet.stack.plugins.module_utils.filesystem import sync_below
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import stop as stop_units

WHEELS = Path("/usr/share/python-wheels")
CHANGE = re.compile(r"^ ([-+~]) (\S+)$", re.MULTILINE)
MADE_WITH = re.compile(r"^version(?:_info)? = (\d+\.\d+)", re.MULTILINE)
PIN = re.compile(r"^([A-Za-z0-9_.-]+==[^\s;]+)", re.MULTILINE)


class CommandFailedError(Exception):
    """A command that ended with an error; the message contains the end of its output."""


def run(*words: str | Path, **options: Any) -> str:
    """Return the output of a command; uv reports what it does on standard error."""
    done = program([str(word) for word in words], WORK_SECONDS, cwd="/", **options)
    if done.returncode != 0:
        raise CommandFailedError(f"{words[0]} {words[1]}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout + done.stderr


class Uv:
    """The pinned uv in its own environment."""

    def __init__(self, path: Path, requirement: str, python: Path) -> None:
        self.path, self.requirement, self.python = path, requirement.strip(), python
        self.program = path / "bin" / "uv"

    @functools.cached_property
    def is_ready(self) -> bool:
        try:
            return run(self.program, "--version").split()[1] == self.requirement.partition("==")[2]
        except (CommandFailedError, OSError, IndexError):
            return False

    def install(self) -> None:
        """Install uv with the pip that Debian has for new environments, which need not be installed in this one."""
        if not (pip := sorted(WHEELS.glob("pip-*.whl"))):
            raise CommandFailedError(f"{WHEELS} has no pip; install python3-venv")
        run(self.python, "-m", "venv", "--clear", "--without-pip", self.path)
        run(self.path / "bin" / "python", pip[-1] / "pip", "install", "--quiet", self.requirement)
        del self.is_ready


class Venv:
    def __init__(self, path: Path, requirements: Path, python: Path, uv: Uv, compiler: str | None = None) -> None:
        self.path, self.requirements, self.python, self.uv, self.compiler = path, requirements, python, uv, compiler
        self.stamp = path / environments.STAMP

    def is_whole(self) -> bool:
        """Return whether the environment was completed, with the Python that exists now, and that Python runs."""
        python, interpreter = self.path / "bin" / "python", interpreters.ask(str(self.python))
        if not interpreter or not self.stamp.exists() or python.resolve() != Path(interpreter.program):
            return False
        with suppress(OSError):
            made_with = MADE_WITH.search((self.path / "pyvenv.cfg").read_text())
            return made_with is not None and interpreter.version.startswith(f"{made_with[1]}.")
        return False

    def sync(self, tree: Path, *options: str) -> list[tuple[str, str]]:
        """Bring the packages to their pins, and return the changes as (sign, package) with the signs -, + and ~."""
        target = ("--python", tree / "bin" / "python")
        return CHANGE.findall(run(self.uv.program, "pip", "sync", *target, *options, self.requirements))

    def pending(self) -> list[tuple[str, str]]:
        all_of_them = [("+", pin) for pin in PIN.findall(self.requirements.read_text())]
        if not self.is_whole():
            return all_of_them
        if not self.uv.is_ready:
            return [("~", self.uv.requirement)]
        # The index is asked only if its cached answers do not show that nothing is missing.
        with suppress(CommandFailedError):
            if not self.sync(self.path, "--dry-run", "--offline"):
                return []
        return self.sync(self.path, "--dry-run")

    def prepare(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Bring uv to its pin; return that change and the pending ones."""
        replaced = [] if self.uv.is_ready else [("~", self.uv.requirement)]
        if replaced:
            self.uv.install()
        return replaced, self.pending()

    def build(self, trial: dict[str, Any] | None) -> Path:
        """Build an environment at its pins beside the one in use, synced to disk; a failed one is removed."""
        tree = environments.new_tree(self.path)
        try:
            tree.parent.mkdir(parents=True, exist_ok=True)
            run(self.uv.program, "venv", "--quiet", "--python", self.python, tree)
            self.sync(tree, "--link-mode=hardlink", *([] if self.compiler else ["--compile-bytecode"]))
            if self.compiler:
                store = Path(run(self.uv.program, "cache", "dir").splitlines()[0], "bytecode")
                run(tree / "bin" / "python", "-I", "-", store, input=self.compiler)
            (tree / ".lock").chmod(0o644)  # uv leaves it writable for everyone
            if trial:
                trials.hold_in_environment(tree / "bin/python", trial)
            (tree / environments.STAMP).touch()
            sync_below(tree)
        except BaseException:
            shutil.rmtree(tree, ignore_errors=True)
            raise
        return tree

    def take(self, tree: Path) -> None:
        (tree / environments.STAMP).touch()  # now, because what was started before must be restarted
        environments.exchange(self.path, tree)


def installed(venv: Venv, trial: dict[str, Any] | None, stop: Callable[[], None]) -> list[tuple[str, str]]:
    """Bring the environment to its pins, and return the changes."""
    replaced, pending = venv.prepare()
    if pending:
        tree = venv.build(trial)
        stop()
        venv.take(tree)
    environments.clear(venv.path)
    return replaced + pending


def index_environment(index_url: str | None, extra_index_urls: list[str]) -> dict[str, str]:
    """Return the package indexes as the variables that uv and pip read."""
    extra = " ".join(extra_index_urls)
    named = {"UV_DEFAULT_INDEX": index_url, "PIP_INDEX_URL": index_url, "UV_INDEX": extra, "PIP_EXTRA_INDEX_URL": extra}
    # By default, uv takes a package from the first index that knows its name, even without the pinned version.
    named["UV_INDEX_STRATEGY"] = "unsafe-first-match" if extra else None
    return {name: value for name, value in named.items() if value}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "str", "required": True},
            "python": {"type": "path", "default": interpreters.OF_DEBIAN},
            "uv_path": {"type": "path", "default": "/opt/mlfleet/uv"},
            "uv_requirement": {"type": "str", "required": True},
            "index_url": {"type": "str", "no_log": True},
            "extra_index_urls": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "compiler": {"type": "str"},
            "stop_units": {"type": "list", "elements": "str", "default": []},
            "stop_timeout_seconds": {"type": "int", "default": 90},
            "trial": trials.OPTION,
        },
        supports_check_mode=True,
    )
    hold(module, f"python_venv {module.params['path']}")
    os.umask(0o022)
    os.environ.update(index_environment(module.params["index_url"], module.params["extra_index_urls"]))
    path, python = Path(module.params["path"]), Path(module.params["python"])

    stopped: list[str] = []

    def stop() -> None:
        stopped.extend(module.params["stop_units"])
        stop_units(stopped, module.params["stop_timeout_seconds"])

    uv = Uv(Path(module.params["uv_path"]), module.params["uv_requirement"], Path(interpreters.OF_DEBIAN))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=module.tmpdir) as pins:
        pins.write(module.params["requirements"])
        pins.flush()
        venv = Venv(path, Path(pins.name), python, uv, module.params["compiler"])
        try:
            changes = venv.pending() if module.check_mode else installed(venv, module.params["trial"], stop)
            usable = not (module.check_mode and changes) or venv.is_whole()
        except trials.RefusedError as error:
            module.fail_json(msg=f"Virtual environment {path}: {error}; the former one stays in use")
        except (CommandFailedError, UnitError, OSError) as error:
            until = f"\nUntil a run succeeds these stay stopped: {', '.join(stopped)}" if stopped else ""
            module.fail_json(msg=f"Virtual environment {path}: {error}{until}")
    diff = {
        "before": "".join(f"{package}\n" for sign, package in changes if sign == "-"),
        "after": "".join(f"{package}\n" for sign, package in changes if sign != "-"),
        "before_header": str(path),
        "after_header": str(path),
    }
    module.exit_json(changed=bool(changes), stamp=str(venv.stamp), usable=usable, diff=diff if changes else {})


if __name__ == "__main__":
    main()

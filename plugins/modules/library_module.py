#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# It is sent to the host with every task, so it is short.

from __future__ import annotations

DOCUMENTATION = r"""
module: library_module
short_description: Run another module of this collection from the host's cache
description: Used by the actions of the collection; do not use it in playbooks.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options: {}
attributes:
  check_mode:
    description: Changes nothing except what the other module changes.
    support: full
  diff_mode:
    description: Same as the other module.
    support: full
"""
EXAMPLES = r"""
---
# None.
"""
RETURN = ""

import sys

# Root may have been started in another user's directory.
while "" in sys.path:
    sys.path.remove("")

import base64
import hashlib
import importlib
import importlib.util
import json
import marshal
import os
import runpy
import traceback
import zlib
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType

KEPT = 4  # versions of the library, because two controllers may differ
DIGEST_LENGTH = 32


class MissingError(Exception):
    pass


class Library:
    """Find and load what is in the library, whose entries are code or, as long as it is not installed, text."""

    def __init__(self, entries: dict[str, bytes | str]) -> None:
        self.entries = entries

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        is_package = f"{name}." in self.entries
        if not is_package and name not in self.entries:
            return None
        origin = origin_of(f"{name}." if is_package else name)
        spec = importlib.util.spec_from_loader(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True  # type: ignore[union-attr]  # ansible-core looks for its location
        return spec

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        entry = self.entries.get(name, self.entries.get(f"{name}.", ""))
        return marshal.loads(entry) if isinstance(entry, bytes) else compiled(name, entry)


def origin_of(name: str) -> str:
    """Return the path that a traceback shows."""
    return f"/mlfleet.library/{name.replace('.', '/')}{'__init__' if name.endswith('.') else ''}.py"


def compiled(name: str, text: str) -> CodeType:
    return compile(text, origin_of(name), "exec", dont_inherit=True)


def read(path: Path) -> dict[str, bytes | str]:
    """Return the code of a file that only root can have written and that is intact."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            state = os.fstat(file.fileno())
            content = file.read()
    except (FileNotFoundError, PermissionError):
        raise MissingError("absent") from None
    except OSError:
        raise MissingError("changed") from None
    is_roots = state.st_uid == 0 and not state.st_mode & 0o022
    if not is_roots or hashlib.sha256(content[DIGEST_LENGTH:]).digest() != content[:DIGEST_LENGTH]:
        raise MissingError("changed")
    return marshal.loads(content[DIGEST_LENGTH:])


def install(path: Path, sources: dict[str, str]) -> dict[str, bytes | str]:
    """Install the code of the sources, completely or not at all; a host without space for it continues without."""
    codes = {name: marshal.dumps(compiled(name, text)) for name, text in sources.items()}
    content = marshal.dumps(codes)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755)  # regardless of the umask
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        new.replace(path)
        for former in sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            former.unlink()
    except OSError:
        with suppress(OSError):
            new.unlink()
    return dict(codes)


def main() -> None:
    try:
        call = json.loads(r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>""")  # JSON never has three quotes in a row
    except ValueError:
        basic = importlib.import_module("ansible.module_utils.basic")
        basic.AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
            msg="Only the actions of the collection may run this."
        )
    try:
        Path.cwd()
    except OSError:  # it belongs to an account whose files this one may not see
        os.chdir("/")
    path = Path(call["directory"], f"{call['digest']}-{importlib.util.MAGIC_NUMBER.hex()}")
    if "sources" in call:
        sources = json.loads(zlib.decompress(base64.b64decode(call["sources"])))
        entries = install(path, sources) if call["install"] and os.geteuid() == 0 else sources
    else:
        try:
            entries = read(path)
        except MissingError as error:
            sys.stdout.write(json.dumps({"library_misses": str(error)}))
            return
    sys.meta_path.insert(0, Library(entries))  # type: ignore[arg-type]
    if call.get("changed"):
        os.environ["MLFLEET_LIBRARY_CHANGED"] = str(path)
    options = {name: value for name, value in call.items() if name.startswith("_ansible_")}
    options["_ansible_module_name"] = call["module"].rpartition(".")[2]
    known = {"_module_fqn": call["module"], "_modlib_path": str(path)}
    try:
        arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {**call["arguments"], **options}}).encode()
        basic = importlib.import_module("ansible.module_utils.basic")
        vars(basic).update(_ANSIBLE_ARGS=arguments, _ANSIBLE_PROFILE="legacy")
        runpy.run_module(call["module"], init_globals=known, run_name="__main__", alter_sys=True)
    except Exception as error:
        told = {"failed": True, "msg": f"{type(error).__name__}: {error}", "exception": traceback.format_exc()}
        sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()

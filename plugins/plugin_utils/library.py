# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The library of this collection's modules on each host, so that a task sends only its arguments."""

from __future__ import annotations

import base64
import functools
import gc
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.mlfleet.stack.plugins.plugin_utils import outcomes
from ansible_collections.mlfleet.stack.plugins.plugin_utils.templating import RememberingEngine

COLLECTION = "ansible_collections.mlfleet.stack"
STUB = "mlfleet.stack.library_module"
DIRECTORY = "/var/cache/mlfleet-modules"  # no role declares it, because it exists before the roles run

# Tasks run in forks, whose garbage collector would visit, and so copy, all that is loaded by now.
gc.freeze()


class LibraryActionBase(ActionBase):
    """Run modules of this collection from the host's library, which the first task outside check mode installs.

    In check mode, or if it cannot be installed, the library's code is sent with each task that misses it.
    """

    @classmethod
    @contextmanager
    def get_finalize_task_args_context(cls) -> Iterator[dict[str, RememberingEngine]]:
        yield {}

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: dict[str, RememberingEngine]) -> Any:
        if "engine" not in context:
            context["engine"] = RememberingEngine.of(templar)
        return super().finalize_task_arg(name, value, context["engine"], None)

    def _execute_module(  # type: ignore[override]
        self,
        module_name: str | None = None,
        module_args: dict[str, Any] | None = None,
        task_vars: dict[str, Any] | None = None,
        wrap_async: bool = False,
    ) -> dict[str, Any]:
        name = module_name or self._task.action
        arguments = self._task.args if module_args is None else module_args
        if wrap_async or not name.startswith("mlfleet.stack."):
            return super()._execute_module(name, arguments, task_vars=task_vars, wrap_async=wrap_async)
        call = {"module": f"{COLLECTION}.plugins.modules.{name.rpartition('.')[2]}", "arguments": arguments}
        call |= {"directory": DIRECTORY, "digest": digest()}
        result = super()._execute_module(STUB, call.copy(), task_vars=task_vars)
        if why := result.get("library_misses"):
            # A task in a check run may itself not be in check mode.
            install, changed = not (self._task.check_mode or context.CLIARGS.get("check")), why == "changed"
            if install and changed:
                self._display.warning(
                    f"{DIRECTORY} was changed by hand: its code is not used, and replaced by a task of root's."
                )
            call |= {"sources": packed(), "install": install, "changed": changed}
            result = super()._execute_module(STUB, call, task_vars=task_vars)
        return result

    @staticmethod
    def _tell(result: dict[str, Any], task_vars: dict[str, Any] | None, *names: str, **more: Any) -> dict[str, Any]:
        """Record the outcome under these names for later tasks of this run, and return the result."""
        if not (result.get("failed") or result.get("unreachable")):
            outcome = {"changed": result["changed"], **more}
            outcomes.tell((task_vars or {})["inventory_hostname"], dict.fromkeys(names, outcome))
        return result


@functools.cache
def sources() -> dict[str, str]:
    """Return the code that modules import on a host, by import name; a package's name ends with a dot."""
    ours = Path(__file__).parents[1]
    roots = {
        "ansible.module_utils": Path(ansible.module_utils.__file__).parent,
        f"{COLLECTION}.plugins.module_utils": ours / "module_utils",
        f"{COLLECTION}.plugins.modules": ours / "modules",
    }
    found = {}
    for package, directory in roots.items():
        for file in directory.rglob("*.py"):
            parts = [package, *file.relative_to(directory).with_suffix("").parts]
            name = ".".join(parts[:-1]) + "." if parts[-1] == "__init__" else ".".join(parts)
            found[name] = file.read_text(encoding="utf-8")
    for name in list(found):
        while name := name.rpartition(".")[0]:
            found.setdefault(f"{name}.", "")
    return dict(sorted(found.items()))


@functools.cache
def digest() -> str:
    return hashlib.sha256(json.dumps(sources()).encode()).hexdigest()[:32]


@functools.cache
def packed() -> str:
    return base64.b64encode(zlib.compress(json.dumps(sources()).encode())).decode()


digest()  # computed in the run's process, and inherited by those of all tasks

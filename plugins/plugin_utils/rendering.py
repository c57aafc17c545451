# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of hosts as their roles will see them; common values are rendered once for all hosts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import option_checks, role_files
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import (
    Role,
    UnresolvableError,
    UnsetError,
)
from ansible_collections.mlfleet.stack.plugins.plugin_utils.templating import RememberingEngine
from jinja2 import Environment, TemplateSyntaxError, nodes

ROLES_DIR = Path(__file__).parents[2] / "roles"

UNSET = object()
# With these, a template may read variables that it does not name.
UNKNOWABLE = {"vars", "lookup", "query", "q"}
_parser = Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], autoescape=True)


class Shared:
    """Values rendered for the first host, for others that do not differ in the variables involved."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables
        self.rendered: dict[str, Any] = {}  # or the resulting error
        self.validated: dict[str, tuple[Any, list[str]]] = {}
        self._references: dict[str, set[str]] = {}

    def references(self, name: str) -> set[str]:
        """Return the variables that the value of this one depends on, including itself."""
        if name not in self._references:
            seen: set[str] = set()
            waiting = [name]
            while waiting:
                each = waiting.pop()
                if each not in seen:
                    seen.add(each)
                    waiting += names_in(self.variables.get(each))
            self._references[name] = seen
        return self._references[name]

    def differs(self, others: Mapping[str, Any]) -> Callable[[str], bool]:
        """Return a predicate: whether a variable may have another value with these other variables."""

        @functools.cache
        def is_other(name: str) -> bool:
            mine, other = self.variables.get(name, UNSET), others.get(name, UNSET)
            return name in UNKNOWABLE or (mine is not other and mine != other)

        return lambda name: any(map(is_other, self.references(name)))


class Host:
    """A host with its roles, and the values of their settings."""

    def __init__(
        self, name: str, variables: Mapping[str, Any], roles: list[Role], shared: Shared, engine: RememberingEngine
    ) -> None:
        self.name, self.variables, self.roles, self._shared = name, variables, roles, shared
        self._is_first = shared.variables is variables
        self._differs = shared.differs(variables)
        # Values that all hosts render alike, so that values which refer to them do not render them again.
        self._rendered = {
            name: value
            for name, value in shared.rendered.items()
            if not self._is_first and not isinstance(value, Exception) and not self._differs(name)
        }
        self._engine = engine
        self._engines: dict[str, RememberingEngine] = {}

    def _engine_of(self, role: Role) -> RememberingEngine:
        if role.name not in self._engines:
            variables = {**self.variables, **self._rendered, "role_path": str(role.path)}
            self._engines[role.name] = self._engine.with_variables(variables)
        return self._engines[role.name]

    def resolve(self, role: Role, name: str) -> Any:
        """Return a value as the role will see it: one at a time, so that an error names its option."""
        if name not in self._rendered:
            found = self._shared.rendered.get(name, UNSET)
            if found is UNSET or self._is_first or self._differs(name):
                found = self._render(role, name)
            if self._is_first:
                self._shared.rendered[name] = found
            if isinstance(found, Exception):
                raise found
            self._rendered[name] = found
        return self._rendered[name]

    def _render(self, role: Role, name: str) -> Any:
        if name not in self.variables:
            return UnsetError()
        try:
            return self._engine_of(role).template(self.variables[name])
        except AnsibleValueOmittedError:
            return UnsetError()
        except AnsibleUndefinedVariable as error:
            return UnresolvableError(" ".join(str(error).split()))
        except AnsibleError as error:
            # Other errors may quote the value.
            is_secret = role.options.get(name, {}).get("no_log")
            return UnresolvableError("does not render" if is_secret else " ".join(str(error).split()))

    def validated(self, name: str, option: Mapping[str, Any], value: Any) -> tuple[Any, list[str]]:
        """Validate like option_checks.validated, once for all hosts with the shared value."""
        is_shared = value is self._shared.rendered.get(name, UNSET)
        if not is_shared or name not in self._shared.validated:
            found = option_checks.validated(name, option, value)
            if not is_shared:
                return found
            self._shared.validated[name] = found
        return self._shared.validated[name]

    def option(self, role: Role, name: str) -> Any:
        return self.validated(name, role.options[name], self.resolve(role, name))[0]

    def declared(self, noun: str) -> dict[str, Any]:
        """Return the variables of roles that declare this noun, such as __redis_python_versions."""
        names = {role: f"__{role.name}_{noun}" for role in self.roles}
        return {role.name: self.resolve(role, name) for role, name in names.items() if name in role.vars}


class Hosts:
    """The hosts of a play."""

    def __init__(
        self,
        site: list[str],
        task_vars: Mapping[str, Any],
        task: Task | None,
        loader: DataLoader,
        read: Callable[[Path], Any],
    ) -> None:
        self._site, self._task_vars, self._task, self._read = site, task_vars, task, read
        self._engine = RememberingEngine(loader)
        self.raw = functools.cache(task_vars["hostvars"].raw_get)
        self._last: Host | None = None
        self._shared: dict[tuple[str, ...], Shared] = {}
        self._roles: dict[tuple[str, ...], list[Role]] = {}
        play = set(task_vars["ansible_play_hosts"])
        # The first host of a group that this run covers reports for its group.
        self.speakers = {
            name: next(filter(play.__contains__, hosts), "") for name, hosts in task_vars["groups"].items()
        }

    def host(self, name: str, roles: Iterable[str] | None = None) -> Host:
        """Return the host, with these roles, by default those that it runs.

        Raises:
            LookupError: there is no such role.
        """
        if self._last and self._last.name == name:
            return self._last
        variables = self._variables_of(name)
        names = tuple(role_files.roles_of_host(self._site, variables["group_names"]) if roles is None else roles)
        if names not in self._roles:
            self._roles[names] = role_files.load_roles(names, ROLES_DIR, self._read)
        loaded = self._roles[names]
        own = (values for role in loaded for values in (role.defaults, role.vars))
        seen = {name: value for values in (*own, variables) for name, value in values.items()}
        shared = self._shared.setdefault(names, Shared(seen))
        self._last = Host(name, seen, loaded, shared, self._engine)
        return self._last

    def _variables_of(self, name: str) -> dict[str, Any]:
        """Return the variables that the host would have in the task, including the play's."""
        hostvars = self._task_vars["hostvars"]
        play = self._task._parent._play if self._task else None
        found: dict[str, Any] = hostvars._variable_manager.get_vars(
            play=play,
            host=hostvars._inventory.get_host(name),
            task=self._task,
            include_hostvars=False,
            _hosts=self._task_vars["ansible_play_hosts"],
            _hosts_all=self._task_vars.get("ansible_play_hosts_all"),
        )
        return found | {"hostvars": hostvars}


def names_in(value: Any) -> Iterator[str]:
    """Yield the variables that the templates in a value name."""
    if isinstance(value, str):
        yield from _names_in_text(value) if "{" in value else ()
    elif isinstance(value, dict):  # not hostvars, which are the same for all
        for key, each in value.items():
            yield from names_in(key)
            yield from names_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from names_in(each)


@functools.cache
def _names_in_text(text: str) -> frozenset[str]:
    try:
        return frozenset(node.name for node in _parser.parse(text).find_all(nodes.Name))
    except TemplateSyntaxError:
        return frozenset(UNKNOWABLE)

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate the inventory for one host, on the controller alone."""

from __future__ import annotations

import functools
import os
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible_collections.mlfleet.stack.plugins.filter.topology import UNITS, unreachable
from ansible_collections.mlfleet.stack.plugins.module_utils import authority, gpu, preflight, stores
from ansible_collections.mlfleet.stack.plugins.module_utils.certificates import CertificateError
from ansible_collections.mlfleet.stack.plugins.module_utils.preflight import Role, UnresolvableError, UnsetError
from ansible_collections.mlfleet.stack.plugins.plugin_utils import run_lock
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase

ROLES_DIR = Path(__file__).parents[2] / "roles"
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "roles": {"type": "list", "elements": "str", "default": []},
    "facts": {"type": "bool", "default": False},
    "gpus": {"type": "dict"},
}


class ActionModule(LibraryActionBase):
    """Collect all that is wrong, then fail once."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        names = preflight.roles_of_host(arguments["roles"], task_vars["group_names"])
        try:
            roles = preflight.load_roles(names, ROLES_DIR, self._read)
        except LookupError as error:
            raise AnsibleActionFail(str(error)) from None
        result |= {"changed": False, "roles": names}
        if arguments["gpus"] is not None:
            return result | self._placed(roles, arguments["gpus"], task_vars)
        if arguments["facts"]:
            lines, result["ansible_facts"] = self._about_facts(roles, task_vars)
        else:
            lines = self._first_lines(arguments["roles"], roles, task_vars)
        result["failed"] = bool(lines)
        if lines:
            result["msg"] = "\n".join(lines)
        return result

    def _first_lines(self, site: list[str], roles: list[Role], task_vars: dict[str, Any]) -> list[str]:
        """Nothing is said of the inventory while another run is under way; the first host speaks for all."""
        is_first = task_vars["inventory_hostname"] == task_vars["ansible_play_hosts"][0]
        inventory = Path(task_vars["hostvars"][task_vars["groups"]["all"][0]].get("inventory_dir") or Path.cwd())
        try:
            # This is a process of the task, and its parent the run.
            run_lock.claim(run_lock.path_of(inventory), os.getppid(), self._task.check_mode or not is_first)
        except (run_lock.RunningError, OSError) as error:
            return [f"{inventory.name}: {error}"] if is_first else []
        if not site:
            return []
        unknown = preflight.unknown_workers(site, task_vars["groups"]) if is_first else ()
        return [*self._lines(roles, task_vars), *unknown]

    def _lines(self, roles: list[Role], task_vars: dict[str, Any]) -> list[str]:
        host, first = task_vars["inventory_hostname"], task_vars["ansible_play_hosts"][0]
        inventory = preflight.inventory_directory(
            task_vars.get("ansible_inventory_sources") or [], task_vars.get("inventory_dir"), Path.cwd()
        )
        resolve = self._resolver(roles, task_vars)

        def is_news(name: str) -> bool:
            """The first host speaks for all that have the same value, or lack it too."""
            return host == first or task_vars["hostvars"][first].get(name) != task_vars["hostvars"][host].get(name)

        found = preflight.examine(roles, resolve)
        missing = [name for name in found.missing_secrets if is_news(name)]
        malformed = {name: problem for name, problem in found.malformed_secrets.items() if is_news(name)}

        def declared(noun: str) -> dict[str, Any]:
            return self._declared(noun, roles, resolve)

        groups, mine = task_vars["groups"], task_vars["group_names"]
        # The first host of a group that this run covers speaks for its group.
        speaks_for = {
            name
            for name, hosts in groups.items()
            if next(filter(task_vars["ansible_play_hosts"].__contains__, hosts), "") == host
        }
        scattered = preflight.scattered(host, groups, functools.cache(task_vars["hostvars"].raw_get))
        scattered = [*scattered, *unreachable(host, groups, task_vars["hostvars"])]
        strangers = preflight.strangers(task_vars["hostvars"][host], groups)
        wishes = preflight.flattened(declared("gpu_wishes")) if found.is_faultless else []
        required = {role: names for role, names in declared("required_groups").items() if role in speaks_for}
        maxima = {role: maximum for role, maximum in declared("maximum_hosts").items() if role in speaks_for}
        shared, certificates = [], []
        topology = next((role for role in roles if "topology_tls_mode" in role.options), None)
        if topology and found.is_faultless:
            services = [role.name for role in roles if f"topology_{role.name}_tls_mode" in topology.options]

            def get(name: str) -> Any:
                return preflight.validated(name, topology.options[name], resolve(topology, name))[0]

            settings = authority.Settings(get, services)
            directory = Path(task_vars.get("inventory_dir") or Path.cwd())
            if problem := authority.problem_of_own(settings, inventory, self._decrypted):
                shared = [problem] if any(map(is_news, settings.names_of_modes)) else []
            else:
                certificates = list(authority.problems(settings, directory))
            for warning in authority.warnings(settings, directory) if not problem and not certificates else []:
                self._display.warning(warning)
        return [
            *preflight.secret_lines(missing, malformed, inventory),
            *shared,
            *preflight.empty_groups(required, groups, inventory),
            *preflight.crowded_groups(maxima, groups),
            *(
                f"{host}: {line}"
                for line in [*found.lines, *scattered, *strangers, *certificates, *preflight.gpu_problems(wishes, mine)]
            ),
        ]

    def _about_facts(self, roles: list[Role], task_vars: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """What is wrong with the host, and the marks of the stores that it uses."""
        resolve = self._resolver(roles, task_vars)
        versions = self._declared("python_versions", roles, resolve)
        host, facts = task_vars["inventory_hostname"], task_vars["ansible_facts"]
        problems = list(preflight.host_problems(host, facts, versions))
        mine = {role.name for role in roles}
        units = {service: unit for service, unit in UNITS.items() if service in mine}
        units |= self._declared("unit_name", roles, resolve)
        # Most runs find none, and need not render what says where they listen.
        if preflight.idle_services(units, facts):
            options = {name: role for role in roles for name in role.options if preflight.PORT_OPTIONS.fullmatch(name)}
            values = {
                name: preflight.validated(name, role.options[name], resolve(role, name))[0]
                for name, role in options.items()
            }
            problems += preflight.taken_ports(values, units, facts)
        marks, lines = self._stores(roles, resolve, task_vars)
        return [*(f"{host}: {line}" for line in problems), *lines], {"store_marks": marks}

    def _stores(
        self, roles: list[Role], resolve: Callable[[Role, str], Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, str], list[str]]:
        """The marks of the stores that this host uses, and why it must not use what is there."""
        host, groups, asked = task_vars["inventory_hostname"], task_vars["groups"], task_vars["ansible_play_hosts"]
        mine = [store for store, users in stores.USERS.items() if not set(users).isdisjoint(task_vars["group_names"])]
        if not mine:
            return {}, []
        topology = next(role for role in roles if "topology_empty_store_accepted" in role.options)
        name = "topology_empty_store_accepted"
        accepted = preflight.validated(name, topology.options[name], resolve(topology, name))[0]
        facts = functools.cache(lambda host: task_vars["hostvars"].raw_get(host).get("ansible_facts", {}))
        marks, lines = {}, []
        for store in mine:
            found = stores.Store.of(store, groups, asked, facts)
            if found.mark:
                marks[store] = str(found.mark)
            if store not in accepted:
                lines += [f"{host}: {problem}" for problem in found.problems(host)]
        return marks, lines

    def _placed(self, roles: list[Role], found: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """The fact that says which instance of which worker gets which of the GPUs found."""
        resolve = self._resolver(roles, task_vars)
        wishes = preflight.flattened(self._declared("gpu_wishes", roles, resolve))
        host = task_vars["inventory_hostname"]
        try:
            held = preflight.gpu_holders(found["held"])
            # A run with tags may leave out the kind whose GPU would go to another.
            placed = gpu.assign(wishes, found["gpus"], found["problem"], held, "all" in task_vars["ansible_run_tags"])
        except gpu.PlacementError as error:
            return {"failed": True, "msg": f"{host}: {error}"}
        topology = next(role for role in roles if "topology_worker_runtime" in role.options)
        in_containers = resolve(topology, "topology_worker_runtime") == "docker"
        if in_containers and not found["container_toolkit"] and any(instance["devices"] for instance in placed):
            return {"failed": True, "msg": f"{host}: {preflight.NO_TOOLKIT}"}
        if found["problem"]:
            self._display.warning(f"{host}: {found['problem']}")
        return {"ansible_facts": {"gpu_assignments": placed}}

    @staticmethod
    def _declared(noun: str, roles: list[Role], resolve: Callable[[Role, str], Any]) -> dict[str, Any]:
        """What the roles that say so need, such as __redis_python_versions."""
        names = {role: f"__{role.name}_{noun}" for role in roles}
        return {role.name: resolve(role, name) for role, name in names.items() if name in role.vars}

    def _resolver(self, roles: list[Role], task_vars: dict[str, Any]) -> Callable[[Role, str], Any]:
        """Values as the roles will see them: an option at a time, so that an error names its option."""
        own = [values for role in roles for values in (role.defaults, role.vars)]
        variables = {name: value for values in (*own, task_vars) for name, value in values.items()}
        resolved: dict[str, Any] = {}  # so that what refers to a value does not render it again
        templars = {
            role.name: self._templar.copy_with_new_env(
                available_variables=ChainMap({"role_path": str(role.path)}, resolved, variables)
            )
            for role in roles
        }

        def resolve(role: Role, name: str) -> Any:
            if name in resolved:
                return resolved[name]
            if name not in variables:
                raise UnsetError
            try:
                resolved[name] = templars[role.name].template(variables[name])
                return resolved[name]
            except AnsibleValueOmittedError:
                raise UnsetError from None
            except AnsibleUndefinedVariable as error:
                raise UnresolvableError(" ".join(str(error).split())) from None
            except AnsibleError as error:
                # Other errors may quote the value.
                is_secret = role.options.get(name, {}).get("no_log")
                raise UnresolvableError("does not render" if is_secret else " ".join(str(error).split())) from None

        return resolve

    def _decrypted(self, path: str) -> bytes:
        try:
            return self._loader.get_text_file_contents(path).encode()
        except AnsibleError as error:
            raise CertificateError(f"{path}: {' '.join(str(error).split())}") from None

    def _read(self, path: Path) -> Any:
        # unsafe: not copied, since nothing here changes it
        return self._loader.load_from_file(str(path), unsafe=True, trusted_as_template=True) if path.exists() else None

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate the inventory for one host, on the controller alone."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.mlfleet.stack.plugins.filter.topology import units, unreachable
from ansible_collections.mlfleet.stack.plugins.module_utils import stores
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError
from ansible_collections.mlfleet.stack.plugins.plugin_utils import authority, gpu_placement, run_lock, services
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import (
    host_checks,
    inventory_checks,
    option_checks,
    role_files,
)
from ansible_collections.mlfleet.stack.plugins.plugin_utils.rendering import ROLES_DIR, Host, Hosts

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "roles": {"type": "list", "elements": "str", "default": []},
    "facts": {"type": "bool", "default": False},
    "gpus": {"type": "dict"},
}


class ActionModule(LibraryActionBase):
    """Collect all problems, then fail once. A task with run_once covers all hosts of its play."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        play = Hosts(arguments["roles"], task_vars, self._task, self._loader, self.read)
        try:
            own = play.host(task_vars["inventory_hostname"])
        except LookupError as error:
            raise AnsibleActionFail(str(error)) from None
        result |= {"changed": False, "roles": role_files.roles_of_host(arguments["roles"], task_vars["group_names"])}
        if arguments["gpus"] is not None:
            return result | self._placed(own, arguments["gpus"], task_vars)
        hosts = task_vars["ansible_play_hosts"] if self._task.run_once else [own.name]
        if arguments["facts"]:
            told = {name: self._about_facts(play.host(name), task_vars) for name in hosts}
            result["ansible_facts"] = {"store_marks": {name: marks for name, (_lines, marks) in told.items()}}
            lines = [line for found, _marks in told.values() for line in found]
        else:
            lines = self._first_lines(arguments["roles"], hosts, play, task_vars)
        result["failed"] = bool(lines)
        if lines:
            result["msg"] = "\n".join(lines)
        return result

    def _first_lines(self, site: list[str], hosts: list[str], play: Hosts, task_vars: dict[str, Any]) -> list[str]:
        """Claim the run, then validate; while another run is under way, report only that, once for all hosts."""
        first = task_vars["ansible_play_hosts"][0]
        inventory = Path(task_vars["hostvars"][task_vars["groups"]["all"][0]].get("inventory_dir") or Path.cwd())
        try:
            # This process belongs to the task, and its parent is the run.
            run_lock.claim(run_lock.path_of(inventory), os.getppid(), self._task.check_mode or first not in hosts)
        except (run_lock.RunningError, OSError) as error:
            return [f"{inventory.name}: {error}"] if first in hosts else []
        if not site:
            return []
        if first in hosts:
            self._warn_of_misspelled(site, hosts, play, task_vars["groups"])
            for line in inventory_checks.unwatched(task_vars["groups"]):
                self._display.warning(line)
        groups = task_vars["groups"]
        lines = [line for name in hosts for line in self._lines(play.host(name), play, task_vars)]
        of_groups = (
            [*inventory_checks.unknown_workers(site, groups), *self._between_groups(play, groups)]
            if first in hosts
            else ()
        )
        return [*inventory_checks.joined(lines), *of_groups]

    @staticmethod
    def _between_groups(play: Hosts, groups: dict[str, list[str]]) -> Iterator[str]:
        """Yield contradictions between settings of the hosts of two groups, also of hosts that are not in this run."""

        def told(group: str, name: str) -> dict[str, Any]:
            """Return the setting of each host, but unusable ones, which the line of the option reports."""
            found = {}
            for host in map(play.host, groups.get(group, ())):
                role = next((role for role in host.roles if name in role.options), None)
                with contextlib.suppress(role_files.UnsetError, role_files.UnresolvableError):
                    if role and (value := host.option(role, name)) is not None:
                        found[host.name] = value
            return found

        if groups.get("serving_api"):
            longest, patience = (
                told("serving_api", "serving_request_seconds"),
                told("nginx", "nginx_read_timeout_seconds"),
            )
            yield from inventory_checks.impatient_proxies(longest, patience)
            sent, served = (
                told("serving_api", "topology_serving_queue"),
                told("serving_worker", "serving_worker_queues"),
            )
            yield from inventory_checks.unserved_queues(sent, served)

    def _warn_of_misspelled(self, site: list[str], hosts: list[str], play: Hosts, groups: dict[str, list[str]]) -> None:
        """Warn only, because variables and groups of the user's own may have any name."""
        names = {name for host in hosts for name in play.raw(host) if not name.startswith("ansible_")}
        known = role_files.known_options(ROLES_DIR, self.read)
        for name, meant in inventory_checks.misspelled(names, known):
            self._display.warning(f"{name} is not a setting of any role; do you mean {meant}?")
        for group, meant in inventory_checks.misspelled_groups(site, groups):
            self._display.warning(f"group {group} is not a role; do you mean {meant}?")

    def _lines(self, host: Host, play: Hosts, task_vars: dict[str, Any]) -> list[tuple[str, str]]:
        """Return each problem with the name of the host; with no name if it is the whole inventory's."""
        first, roles = task_vars["ansible_play_hosts"][0], host.roles
        inventory = self._inventory_of(host, task_vars)

        def is_news(name: str) -> bool:
            """Return whether the first host does not report this already, with the same or no value."""
            return host.name == first or task_vars["hostvars"][first].get(name) != task_vars["hostvars"][host.name].get(
                name
            )

        found = option_checks.examine(roles, host.resolve, host.validated)
        missing = [name for name in found.missing_secrets if is_news(name)]
        malformed = {name: problem for name, problem in found.malformed_secrets.items() if is_news(name)}
        groups, mine = task_vars["groups"], host.variables["group_names"]
        # The first host of a group that this run covers reports for its group.
        speaks_for = {name for name in mine if play.speakers[name] == host.name}
        scattered = [
            *inventory_checks.scattered(host.name, groups, play.raw),
            *unreachable(host.name, groups, task_vars["hostvars"]),
        ]
        strangers = inventory_checks.strangers(task_vars["hostvars"][host.name], groups)
        wishes = inventory_checks.flattened(host.declared("gpu_wishes")) if found.is_faultless else []
        on_gpus = inventory_checks.gpu_problems(wishes, mine)
        spoken_for = [role.name for role in roles if role.name in speaks_for]
        shared, certificates = [], []
        topology = next((role for role in roles if "topology_tls_mode" in role.options), None)

        def setting(name: str) -> Any:
            """Return a setting of topology, or None for an unusable one, which the line of its option reports."""
            try:
                return host.resolve(topology, name) if topology else None
            except (role_files.UnsetError, role_files.UnresolvableError):
                return None

        missing_groups = {name: list(services.missing_groups(name, groups, setting)) for name in spoken_for}
        if topology and found.is_faultless:
            with_tls = [role.name for role in roles if role.name in services.with_tls()]
            settings = authority.Settings(functools.partial(host.option, topology), with_tls)
            directory = Path(host.variables.get("inventory_dir") or Path.cwd())
            if problem := authority.problem_of_own(settings, inventory, self._decrypted):
                shared = [problem] if any(map(is_news, settings.names_of_modes)) else []
            else:
                certificates = list(authority.problems(settings, directory))
            for warning in authority.warnings(settings, directory) if not problem and not certificates else []:
                self._display.warning(warning)
        of_all = [
            *inventory_checks.secret_lines(missing, malformed, inventory),
            *shared,
            *inventory_checks.empty_groups(missing_groups, inventory),
            *inventory_checks.crowded_groups(spoken_for, groups),
        ]
        own = [*found.lines, *scattered, *strangers, *certificates, *on_gpus]
        return [*(("", line) for line in of_all), *((host.name, line) for line in own)]

    def _inventory_of(self, host: Host, task_vars: dict[str, Any]) -> str:
        """Return the inventory's path as the user would write it."""
        sources = task_vars.get("ansible_inventory_sources") or []
        return inventory_checks.inventory_directory(sources, host.variables.get("inventory_dir"), Path.cwd())

    def _about_facts(self, host: Host, task_vars: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Return the host's problems, and the marks of the stores that it uses."""
        facts = host.variables.get("ansible_facts", {})
        problems = [
            *host_checks.host_problems(host.name, facts, self._environments(host)),
            *host_checks.release_problems(host.declared("debian_releases"), facts),
        ]
        mine = {role.name for role in host.roles}
        units = {service: unit for service, unit in services.UNITS.items() if service in mine}
        units |= host.declared("unit_name")
        # Most runs find none, and need not render the settings of where they listen.
        if host_checks.idle_services(units, facts):
            values = {
                name: host.option(role, name)
                for role in host.roles
                for name in role.options
                if host_checks.PORT_OPTIONS.fullmatch(name)
            }
            problems += host_checks.taken_ports(values, units, facts)
        self._warn_of_leftovers(host, facts.get("own_units", ()), task_vars)
        marks, lines = self._stores(host, task_vars)
        problems += self._about_brokers(host, task_vars)
        return [*(f"{host.name}: {line}" for line in problems), *lines], marks

    def _warn_of_leftovers(self, host: Host, own_units: Iterable[str], task_vars: dict[str, Any]) -> None:
        """Warn of services that still run although the inventory no longer declares them."""
        mine = host.variables["group_names"]
        if not any(group not in mine for group in services.leftovers(own_units, ())):
            return
        inventory = self._inventory_of(host, task_vars)
        declared = [self._names(host, setting) for setting in ("worker_custom_kinds", "containers_extra")]
        for group in services.leftovers(own_units, units(mine, *declared)):
            command = f"ansible-playbook playbooks/remove.yml -i {inventory} -e remove={group}"
            self._display.warning(
                f"{host.name} still has {group}, which the inventory does not want there; remove it with: {command}"
            )

    @staticmethod
    def _names(host: Host, setting: str) -> list[str]:
        """Return the names in a list that the host's roles declare."""
        roles = [role for role in host.roles if setting in role.options]
        return [declared["name"] for role in roles for declared in host.option(role, setting) or ()]

    def _environments(self, host: Host) -> Iterator[host_checks.Environment]:
        """Yield the environments of the host's workers, except those in the user's own images."""
        roles = {role.name: role for role in host.roles}
        if not (worker := roles.get("worker")):
            return
        images = host.option(worker, "worker_images")
        in_containers = host.resolve(worker, "topology_worker_runtime") == "docker"
        usual, of_debian = host.resolve(worker, "__worker_python"), host_checks.OF_DEBIAN
        for role, versions in host.declared("python_versions").items():
            kind = role.removeprefix("worker_").replace("_", "-")
            if not in_containers:
                yield host_checks.Environment(role, usual, "name another with worker_python", tuple(versions))
            elif kind not in images:  # a built image has the host's release
                remedy = "name your own image in worker_images"
                yield host_checks.Environment(role, of_debian, remedy, tuple(versions))
        if not in_containers and "worker_custom" in roles:
            for kind in host.resolve(roles["worker_custom"], "worker_custom_kinds"):
                named = kind.get("python") or usual
                yield host_checks.Environment(f"worker_custom {kind['name']}", named, "name another as its python")

    def _stores(self, host: Host, task_vars: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
        """Return the marks of the stores that this host uses, and why it must not use the data found."""
        groups, asked = task_vars["groups"], task_vars["ansible_play_hosts"]
        mine = {
            store: users
            for store, users in ((store, services.users_of(store)) for store in services.STORES)
            if not set(users).isdisjoint(host.variables["group_names"])
        }
        if not mine:
            return {}, []
        topology = next(role for role in host.roles if "topology_empty_store_accepted" in role.options)
        accepted = host.option(topology, "topology_empty_store_accepted")
        facts = functools.cache(lambda name: task_vars["hostvars"].raw_get(name).get("ansible_facts", {}))
        marks, lines = {}, []
        for store, users in mine.items():
            found = stores.Store.of(store, users, groups, asked, facts)
            if found.mark:
                marks[store] = str(found.mark)
            if store not in accepted:
                lines += [f"{host.name}: {problem}" for problem in found.problems(host.name)]
        return marks, lines

    def _about_brokers(self, host: Host, task_vars: dict[str, Any]) -> list[str]:
        """Return why the brokers cannot become one cluster, for the first of them in this run."""
        brokers = [name for name in task_vars["groups"].get("rabbitmq", ()) if name in task_vars["ansible_play_hosts"]]
        if brokers[:1] != [host.name]:
            return []
        topology = next(role for role in host.roles if "topology_rabbitmq_nodes" in role.options)
        facts = (task_vars["hostvars"].raw_get(name).get("ansible_facts", {}) for name in brokers)
        found = {name: each.get("stores", {}).get("rabbitmq", ()) for name, each in zip(brokers, facts, strict=True)}
        nodes, unused, tls_mode = (
            host.option(topology, f"topology_rabbitmq_{name}") for name in ("nodes", "unused_nodes", "tls_mode")
        )
        return list(host_checks.broker_problems(nodes, found, unused == "absent", tls_mode))

    def _placed(self, host: Host, found: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the fact that assigns the GPUs found to the instances of the workers."""
        wishes = inventory_checks.flattened(host.declared("gpu_wishes"))
        try:
            held = inventory_checks.gpu_holders(found["held"])
            # A run with tags may skip the kind of workers whose GPU would be given to another.
            placed = gpu_placement.assign(
                wishes, found["gpus"], found["problem"], held, "all" in task_vars["ansible_run_tags"]
            )
        except gpu_placement.PlacementError as error:
            return {"failed": True, "msg": f"{host.name}: {error}"}
        topology = next(role for role in host.roles if "topology_worker_runtime" in role.options)
        in_containers = host.resolve(topology, "topology_worker_runtime") == "docker"
        if in_containers and not found["container_toolkit"] and any(instance["devices"] for instance in placed):
            return {"failed": True, "msg": f"{host.name}: {inventory_checks.NO_TOOLKIT}"}
        if found["problem"]:
            self._display.warning(f"{host.name}: {found['problem']}")
        return {"ansible_facts": {"gpu_assignments": placed}}

    def _decrypted(self, path: str) -> bytes:
        try:
            return self._loader.get_text_file_contents(path).encode()
        except AnsibleError as error:
            raise CertificateError(f"{path}: {' '.join(str(error).split())}") from None

    def read(self, path: Path) -> Any:
        # unsafe: not copied, since nothing here changes it
        return self._loader.load_from_file(str(path), unsafe=True, trusted_as_template=True) if path.exists() else None

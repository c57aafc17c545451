"""Print settings of hosts, rendered together and each host alone, as JSON: rendered_settings.py INVENTORY HOST...

This is a separate process, because Ansible must load the collection itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).parents[1]
SITE = [
    "host",
    "postgres",
    "redis",
    "minio",
    "mlflow",
    "restapi",
    "nginx",
    "worker_tensorflow_cpu",
    "worker_pytorch_cpu",
]


def rendered(inventory: Path, *hosts: str) -> dict[str, Any]:
    """Return each host's values as C(together) and C(alone), and in C(count) how many were rendered for it together."""
    command = [sys.executable, __file__, str(inventory), *hosts]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def render(inventory: str, names: list[str]) -> dict[str, Any]:
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager
    from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import (
        UnresolvableError,
        UnsetError,
    )
    from ansible_collections.mlfleet.stack.plugins.plugin_utils.rendering import Host, Hosts

    loader = DataLoader()
    known = InventoryManager(loader, [inventory])
    manager = VariableManager(loader, known)
    # Like a task's, whose connection has been set to its first host.
    task_vars = manager.get_vars(host=known.get_host(names[0])) | {
        "hostvars": HostVars(known, manager, loader),
        "ansible_play_hosts": list(known.hosts),
        "ansible_play_hosts_all": list(known.hosts),
        "ansible_host": names[0],
    }
    count: dict[str, list[str]] = {}
    render_one = Host._render

    def noted(self: Host, role: Any, name: str) -> Any:
        count.setdefault(self.name, []).append(name)
        return render_one(self, role, name)

    Host._render = noted  # type: ignore[method-assign]

    def hosts() -> Hosts:
        return Hosts(SITE, task_vars, None, loader, read)

    def read(path: Path) -> Any:
        return loader.load_from_file(str(path), unsafe=True, trusted_as_template=True) if path.exists() else None

    def values(host: Host) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for role in host.roles:
            for name in [*role.options, *(name for name in role.vars if name.endswith("_files"))]:
                try:
                    found[name] = host.resolve(role, name)
                except (UnsetError, UnresolvableError) as error:
                    found[name] = repr(error)
        return found

    all_of_them = hosts()
    all_of_them.host(names[0])  # like the action
    together = {name: values(all_of_them.host(name)) for name in names}
    counted = {name: list(rendered) for name, rendered in count.items()}
    return {"together": together, "count": counted, "alone": {name: values(hosts().host(name)) for name in names}}


if __name__ == "__main__":
    init_plugin_loader()
    print(json.dumps(render(sys.argv[1], sys.argv[2:]), default=str))

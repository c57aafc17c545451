"""nginx' configuration as an inventory has it, rendered without its hosts: nginx_conf.py DIRECTORY INVENTORY...

A process of its own, for Ansible wants to load the collection itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).parents[1]
ON_HOST = "/etc/nginx/mlfleet-tls"
TEMPLATE = f"{{{{ lookup('ansible.builtin.template', '{ROOT}/roles/nginx/templates/nginx.conf.j2') }}}}"


def rendered(directory: Path, *inventories: Path) -> list[Path]:
    """The configurations and the listeners that they include, each in a directory of its own."""
    found = [directory / str(number) for number, _inventory in enumerate(inventories)]
    command = [sys.executable, __file__, str(directory), *map(str, inventories)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [path / "nginx.conf" for path in found]


def render(directory: Path, inventory: Path) -> None:
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.playbook.play import Play
    from ansible.template import Templar, trust_as_template
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager
    from ansible_collections.mlfleet.stack.plugins.module_utils.tls import services

    loader = DataLoader()
    hosts = InventoryManager(loader=loader, sources=[str(inventory / "hosts.yml")])
    variables = VariableManager(loader=loader, inventory=hosts)
    data = {"name": "nginx", "hosts": "nginx", "gather_facts": False, "roles": ["mlfleet.stack.nginx"]}
    play = Play.load(data, variable_manager=variables, loader=loader)
    host = hosts.groups["nginx"].get_hosts()[0]
    known = variables.get_vars(play=play, host=host) | {"hostvars": HostVars(hosts, variables, loader)}
    values = Templar(loader, known)

    def value(text: str) -> Any:
        return values.template(trust_as_template(text))

    directory.mkdir(parents=True)
    wanted = services.Wanted(
        directory=str(directory),
        address="",
        pair=value("{{ topology_nginx_scheme }}") == "https" or None,
        listen=value("{{ __nginx_listen }}"),
        hsts_max_age_seconds=value("{{ nginx_hsts_max_age_seconds }}"),
        ciphers=value("{{ topology_tls_ciphers | join(':') }}"),
    )
    for path, text in services.SERVICES["nginx"].settings(wanted).items():
        Path(path).write_text(text)
    (directory / "nginx.conf").write_text(value(TEMPLATE).replace(ON_HOST, str(directory)))


if __name__ == "__main__":
    init_plugin_loader([str(ROOT / ".ansible/collections")])
    for number, inventory in enumerate(sys.argv[2:]):
        render(Path(sys.argv[1], str(number)), Path(inventory))

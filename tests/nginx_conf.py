"""Render nginx's configuration of an inventory without its hosts: nginx_conf.py DIRECTORY INVENTORY...

This is a separate process, because Ansible must load the collection itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).parents[1]
ON_HOST = "/etc/nginx/mlfleet-tls"
TEMPLATES = f"{ROOT}/roles/nginx/templates"
CONFIGURATION = f"{{{{ lookup('ansible.builtin.template', '{TEMPLATES}/nginx.conf.j2') }}}}"
LISTENER = f"{{{{ lookup('ansible.builtin.template', '{TEMPLATES}/listener.conf.j2', template_vars=file.vars) }}}}"


def rendered(directory: Path, *inventories: Path) -> list[Path]:
    """Return the configurations and the listeners that they include, each in its own directory."""
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

    loader = DataLoader()
    hosts = InventoryManager(loader=loader, sources=[str(inventory / "hosts.yml")])
    variables = VariableManager(loader=loader, inventory=hosts)
    data = {"name": "nginx", "hosts": "nginx", "gather_facts": False, "roles": ["mlfleet.stack.nginx"]}
    play = Play.load(data, variable_manager=variables, loader=loader)
    host = hosts.groups["nginx"].get_hosts()[0]
    known = variables.get_vars(play=play, host=host) | {"hostvars": HostVars(hosts, variables, loader)}

    def value(text: str, **more: Any) -> Any:
        return Templar(loader, known | more).template(trust_as_template(text))

    directory.mkdir(parents=True)
    for file in value("{{ __nginx_listener_files }}"):
        text = value(LISTENER, file=file)
        (directory / Path(file["path"]).name).write_text(text.replace(ON_HOST, str(directory)))
    (directory / "nginx.conf").write_text(value(CONFIGURATION).replace(ON_HOST, str(directory)))


if __name__ == "__main__":
    init_plugin_loader([str(ROOT / ".ansible/collections")])
    for number, inventory in enumerate(sys.argv[2:]):
        render(Path(sys.argv[1], str(number)), Path(inventory))

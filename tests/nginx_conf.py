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
TEMPLATES = ROOT / "roles/nginx/templates"


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
    from ansible.template import trust_as_template
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager
    from ansible_collections.mlfleet.stack.plugins.plugin_utils.templating import RememberingEngine

    loader = DataLoader()
    hosts = InventoryManager(loader=loader, sources=[str(inventory / "hosts.yml")])
    variables = VariableManager(loader=loader, inventory=hosts)
    data = {"name": "nginx", "hosts": "nginx", "gather_facts": False, "roles": ["mlfleet.stack.nginx"]}
    play = Play.load(data, variable_manager=variables, loader=loader)
    host = hosts.groups["nginx"].get_hosts()[0]
    known = variables.get_vars(play=play, host=host) | {"hostvars": HostVars(hosts, variables, loader)}

    engine = RememberingEngine(loader, variables=known)

    def write(name: str, template: str, **more: Any) -> None:
        text = trust_as_template((TEMPLATES / template).read_text())
        rendered = engine.with_variables(known | more).render_file(text, [str(TEMPLATES)])
        (directory / name).write_text(rendered.replace(ON_HOST, str(directory)))

    directory.mkdir(parents=True)
    for file in engine.template(trust_as_template("{{ __nginx_listener_files }}")):
        write(Path(file["path"]).name, "listener.conf.j2", **file["vars"])
    write("nginx.conf", "nginx.conf.j2")


if __name__ == "__main__":
    init_plugin_loader([str(ROOT / ".ansible/collections")])
    for number, inventory in enumerate(sys.argv[2:]):
        render(Path(sys.argv[1], str(number)), Path(inventory))

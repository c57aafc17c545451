"""The remains of a removed service on its host, and the state of all other files."""

from __future__ import annotations

import yaml

from .conftest import Lab

# Files of Debian's packages and of the lab.
NOT_OURS = " -o ".join(
    f"-path /var/{name}" for name in ("cache/mlfleet", "cache/apt", "lib/apt", "lib/dpkg", "lib/docker")
)
# Accounts, which getent shows, and a common script that names each service.
ELSEWHERE = ["passwd*", "group*", "shadow*", "gshadow*", "*.migrate.py"]
PLACES = "/etc /opt /run /srv /tmp /usr/local /var/cache /var/lib"


def traces(lab: Lab, name: str, host: str = "testbed") -> list[str]:
    """Return paths, settings files, accounts, units and containers with this name, or that contain it."""
    found = lab.ssh(
        f"sudo find {PLACES} -xdev \\( {NOT_OURS} \\) -prune -o -name '*{name}*' -print;"
        f"sudo grep -rIl --exclude-dir=tls {' '.join(f'--exclude={file}' for file in ELSEWHERE)} -- {name} /etc;"
        f"(getent passwd; getent group) | grep -- {name};"
        f"systemctl list-units --all --no-legend --plain | grep -- {name};"
        f"! command -v docker >/dev/null || sudo docker ps --all --format '{{{{.Names}}}}' | grep -- {name};"
        f"! command -v docker >/dev/null || sudo docker image ls --format '{{{{.Repository}}}}' | grep -- {name}; true",
        host,
    )
    return sorted(found.splitlines())


def leave(lab: Lab, group: str, host: str = "testbed") -> None:
    """Take the host out of the group, in all files of the inventory."""
    for file in lab.inventory.glob("*.yml"):
        inventory = yaml.safe_load(file.read_text())
        if isinstance(inventory, dict) and _taken(inventory, group, host):
            file.write_text(yaml.safe_dump(inventory, sort_keys=False))


def _taken(tree: dict, group: str, host: str) -> bool:
    taken = False
    for name, value in tree.items():
        if name == group and isinstance(value, dict) and host in (value.get("hosts") or {}):
            del value["hosts"][host]
            taken = True
        elif isinstance(value, dict):
            taken |= _taken(value, group, host)
    return taken


def assert_removed(lab: Lab, removed: str, *options: str, again: bool = True) -> None:
    """Assert that a check predicts the removal and, unless a host is removed, a second run changes nothing."""
    words = ("-e", f"remove={removed}", *options)
    predicted = lab.playbook(*words, "--check", "--diff", playbook="playbooks/remove.yml")
    assert predicted.code == 0, predicted.output[-4000:]
    run = lab.playbook(*words, playbook="playbooks/remove.yml")
    assert run.code == 0, run.output[-4000:]
    assert run.count("changed") == predicted.count("changed") > 0
    if again:
        run = lab.playbook(*words, playbook="playbooks/remove.yml")
        assert (run.code, run.count("changed")) == (0, 0), run.output[-4000:]

"""Services and a host that are removed where others stay, bare and in containers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
import requests

from .conftest import Lab
from .removal import assert_removed, leave, traces

pytestmark = pytest.mark.fleet

STAYS, GOES = "one", "two"
OF_BOTH = ["nginx", "frontend"]
DATA = "/var/lib/redis"
# Debian's packages leave their own settings.
LEFT = """
sudo grep -rIl "Made by mlfleet" /etc
sudo ls -A /etc/mlfleet /opt/mlfleet 2>/dev/null
systemctl list-units --state=running --no-legend --plain "nginx*" "redis*" "container-*"
! command -v docker >/dev/null || sudo docker ps --all --quiet
true
"""
PAGE = b"<title>A page of ours</title>"


def archive() -> bytes:
    """A finished build of a front end."""
    content, entry = io.BytesIO(), tarfile.TarInfo("index.html")
    entry.size, entry.mode = len(PAGE), 0o644
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(entry, io.BytesIO(PAGE))
    return content.getvalue()


@pytest.fixture(scope="module", params=["bare", "docker"])
def leaving(request: pytest.FixtureRequest) -> Iterator[Lab]:
    settings = {
        "topology_runtime": request.param,
        "topology_nginx_listen_address": "0.0.0.0",
        "frontend_source": "{{ inventory_dir }}/files/frontend.tar.gz",
    }
    groups = {**{group: [STAYS, GOES] for group in OF_BOTH}, "redis": [GOES]}
    words = ("--docker-inside",) if request.param == "docker" else ()
    with Lab.anew("leaving", groups, *words, **settings) as lab:
        (lab.inventory / "files").mkdir()
        (lab.inventory / "files/frontend.tar.gz").write_bytes(archive())
        lab.converge()
        yield lab


def shown(lab: Lab, host: str) -> bool:
    answer = requests.get(f"https://{lab.address(host)}:30443/", verify=str(lab.inventory / "ca/ca.crt"), timeout=10)
    return PAGE in answer.content


def test_frontend_goes_from_one_of_its_hosts(leaving: Lab) -> None:
    assert shown(leaving, STAYS) and shown(leaving, GOES)
    leave(leaving, "frontend", GOES)
    assert_removed(leaving, "frontend")
    assert shown(leaving, STAYS) and not shown(leaving, GOES)
    assert traces(leaving, "frontend", GOES) == []


def test_host_goes_and_keeps_its_data(leaving: Lab) -> None:
    number = leaving.ssh(f"sudo stat -c %i {DATA}", GOES)
    for group in [*OF_BOTH, "redis"]:
        leave(leaving, group, GOES)
    assert_removed(leaving, GOES, again=False)
    assert leaving.ssh(f"sudo stat -c %i {DATA}", GOES) == number
    assert leaving.ssh(LEFT, GOES) == ""
    assert leaving.ssh("sudo ss -Hltn | grep -v 127.0.0 | awk '{print $4}' | grep -v ':22$'; true", GOES) == ""
    assert leaving.converge("--check", "--limit", STAYS).count("changed") == 0
    assert shown(leaving, STAYS)


def test_host_that_comes_back_has_its_data(leaving: Lab) -> None:
    inventory = leaving.inventory / "back.yml"
    groups = "".join(f"    {group}: {{hosts: {{{GOES}: }}}}\n" for group in [*OF_BOTH, "redis"])
    inventory.write_text(f"all:\n  children:\n{groups}")
    number = leaving.ssh(f"sudo stat -c %i {DATA}", GOES)
    leaving.converge()
    assert leaving.ssh(f"sudo stat -c %i {DATA}", GOES) == number
    assert shown(leaving, STAYS) and shown(leaving, GOES)
    assert leaving.converge("--check").count("changed") == 0

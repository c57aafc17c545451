"""nginx's configuration of every inventory and scenario, checked by a static analyser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from ..nginx_conf import ROOT, rendered

# Accepted findings, with the reason; by the check's name and the inventory, or for all inventories.
LEFT = {
    ("proxy_pass_normalized", "molecule/nginx/inventory"): "its routes take a prefix away, which is what it tests",
    ("status_page_exposed", ""): "counts for the exporter, on the loopback interface alone",
    ("try_files_is_evil_too", ""): "a cache of open files would show the former front end after an exchange",
}


def has_nginx(hosts: Path) -> bool:
    return bool((yaml.safe_load(hosts.read_text())["all"].get("children", {}).get("nginx") or {}).get("hosts"))


INVENTORIES = [
    path.parent
    for pattern in ("inventories/*/hosts.yml", "molecule/*/inventory/hosts.yml")
    for path in sorted(ROOT.glob(pattern))
    if path.parts[-2] != "lab" and has_nginx(path) and not path.parents[1].is_symlink()
]
NAMES = [str(path.relative_to(ROOT)) for path in INVENTORIES]


@pytest.fixture(scope="module")
def configurations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return dict(zip(NAMES, rendered(tmp_path_factory.mktemp("nginx"), *INVENTORIES), strict=True))


@pytest.mark.parametrize("inventory", NAMES)
def test_analyser_finds_nothing_but_what_is_left(configurations: dict[str, Path], inventory: str) -> None:
    done = subprocess.run(
        ["gixy", "--format", "json", str(configurations[inventory])], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert [one for one in found if not LEFT.keys() & {(one["plugin"], inventory), (one["plugin"], "")}] == []


def test_analyser_finds_the_hole_of_a_prefix(configurations: dict[str, Path], tmp_path: Path) -> None:
    text = configurations["inventories/single"].read_text()
    assert "location = /api-docs/ {" in text
    (tmp_path / "nginx.conf").write_text(text.replace("location = /api-docs/ {", "location /api-docs/ {"))
    done = subprocess.run(["gixy", "--format", "json", str(tmp_path / "nginx.conf")], capture_output=True, text=True)
    assert "proxy_pass_normalized" in done.stdout


@pytest.mark.parametrize("inventory", NAMES)
def test_only_the_scenario_takes_prefixes_away(configurations: dict[str, Path], inventory: str) -> None:
    """A location that is not exact passes on the path unchanged, so that the guards see the same as the service."""
    lines = [line.strip() for line in configurations[inventory].read_text().splitlines()]
    location = ""
    for line in lines:
        location = line if line.startswith("location ") else location
        if line.startswith("proxy_pass ") and line.count("/") > 2 and inventory != "molecule/nginx/inventory":
            assert location.startswith("location = "), location


def test_pgadmin_on_a_host_of_its_own_is_known_by_a_name(tmp_path: Path) -> None:
    """nginx cannot verify the address at which it reaches pgAdmin."""
    hosts = {"edge1": {"ansible_host": "192.0.2.41"}, "pages1": {"ansible_host": "192.0.2.71"}}
    groups = {"nginx": {"hosts": {"edge1": None}}, "pgadmin": {"hosts": {"pages1": None}}}
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": groups}}))
    (configuration,) = rendered(tmp_path / "nginx", inventory)
    text = configuration.read_text()
    assert "server 192.0.2.71:5050;" in text
    assert "proxy_pass https://pgadmin;" in text and "proxy_ssl_name pgadmin;" in text


def test_names_change_nothing_of_a_site_but_where_it_listens(tmp_path: Path) -> None:
    """One definition answers at both: what limits and guards a site cannot be another by its name."""
    domain, inventories = {"topology_nginx_domain": "example.org"}, []
    for name, settings in {"plain": {}, "named": domain, "behind": domain | {"nginx_traefik_file": "/t.yml"}}.items():
        inventories.append(tmp_path / name)
        inventories[-1].mkdir()
        hosts = yaml.safe_load((ROOT / "inventories/single/hosts.yml").read_text())
        hosts["all"]["vars"] = settings | {"topology_tls_authority_dir": "/nowhere"}
        (inventories[-1] / "hosts.yml").write_text(yaml.safe_dump(hosts))
    configurations = rendered(tmp_path / "nginx", *inventories)
    plain, named, behind = ([line.strip() for line in path.read_text().splitlines()] for path in configurations)
    servers = [lines.count("server {") for lines in (plain, named, behind)]
    assert servers[1:] == [servers[0] + 1, servers[0]]
    listeners = [(path.parent / "mlflow.conf").read_text() for path in configurations]
    assert ["listen 127.0.0.1:443 ssl;" in text for text in listeners] == [False, True, False]
    assert "server_name mlflow.example.org;" in listeners[1]
    assert [('"mlflow.example.org" 1;' in lines) for lines in (plain, named, behind)] == [False, True, True]
    for path in configurations:
        done = subprocess.run(["gixy", "--format", "json", str(path)], capture_output=True, text=True, check=False)
        assert [one for one in json.loads(done.stdout) if (one["plugin"], "") not in LEFT] == []

"""The files of a host that checks the others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlfleet.stack.plugins.filter import drift
from ansible_collections.mlfleet.stack.plugins.filter.unit import systemd_word
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import inventory_checks

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-of-some-length"
FACTS = {
    "ansible_facts": {"ssh_host_key_ed25519_public": "AAAAC3", "ssh_host_key_ed25519_public_keytype": "ssh-ed25519"}
}
RSA = {"ansible_facts": {"ssh_host_key_rsa_public": "AAAAB3", "ssh_host_key_rsa_public_keytype": "ssh-rsa"}}


def test_openssh_reads_the_key_and_it_is_the_same_each_time(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(drift.ssh_private_key(SECRET))
    file.chmod(0o600)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == drift.ssh_public_key(SECRET)
    assert drift.ssh_private_key(SECRET) == file.read_text()
    assert drift.ssh_public_key(f"{SECRET}.") != shown.strip()


@pytest.mark.parametrize(
    ("addresses", "groups", "begin"),
    [
        (["192.0.2.7"], ["redis"], 'restrict,from="192.0.2.7" KEY '),
        (["192.0.2.7"], ["drift"], 'restrict,from="192.0.2.7,127.0.0.1,::1" KEY '),
        ([], ["redis"], "restrict KEY "),
    ],
)
def test_hosts_take_the_key_from_the_one_that_checks_alone(addresses: list[str], groups: list[str], begin: str) -> None:
    declared = yaml.safe_load((ROOT / "roles/host/vars/main.yml").read_text())
    values = {
        "__host_drift_from": trust_as_template(declared["__host_drift_from"]),
        "topology_drift_addresses": addresses,
        "topology_drift_public_key": "KEY",
        "group_names": groups,
    }
    told = Templar(DataLoader(), values).template(trust_as_template(declared["__host_drift_key"][1]["content"]))
    assert told.splitlines()[1].startswith(begin)


def test_hosts_are_known_by_address_and_port() -> None:
    hostvars = {"b": FACTS | {"ansible_host": "192.0.2.2", "ansible_port": "2222"}, "a": FACTS}
    assert drift.known_hosts(["b", "a"], hostvars) == "[192.0.2.2]:2222 ssh-ed25519 AAAAC3\na ssh-ed25519 AAAAC3\n"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("a b", '"a b"'),
        ("date +%F", '"date +%%F"'),
        ('say "$SUMMARY"', '"say \\"$$SUMMARY\\""'),
        ("a\\nb\n", '"a\\\\nb\\n"'),
    ],
)
def test_word_of_a_unit_reaches_the_program_as_it_was_given(word: str, written: str) -> None:
    assert systemd_word(word) == written


def test_host_that_checks_has_to_know_as_whom_to_sign_in() -> None:
    groups = {"drift": ["edge1"]}
    assert list(inventory_checks.strangers({"ansible_user": "deploy"}, groups)) == []
    assert list(inventory_checks.strangers({}, {"drift": []})) == []
    (line,) = inventory_checks.strangers({}, groups)
    assert line.startswith("ansible_user: is not in the inventory")
    (line,) = inventory_checks.strangers({"ansible_user": "deploy", "ansible_become": True}, groups)
    assert line.startswith("ansible_become: cannot be used with")


def test_host_is_known_by_the_keys_it_has() -> None:
    assert drift.known_hosts(["a"], {"a": RSA}) == "a ssh-rsa AAAAB3\n"


def test_one_unknown_host_leaves_the_list_as_it_is() -> None:
    assert drift.known_hosts(["a", "b"], {"a": FACTS, "b": {}}) == ""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, dict]:
    inventory = tmp_path / "prod"
    (inventory / "ca").mkdir(parents=True)
    (inventory / ".ssh").mkdir()
    for name in ("hosts.yml", "ca/ca.key", ".ssh/key"):
        (inventory / name).write_text("all: {}\n")
    return {item["path"]: item for item in drift.project_files(str(ROOT), str(inventory), "/srv/stack", "checker")}


def test_project_and_inventory_are_whole_and_hold_nothing_hidden_or_made(files: dict[str, dict]) -> None:
    assert {"/srv/stack/site.yml", "/srv/stack/galaxy.yml", "/srv/stack/src/mlfleet/__main__.py"} <= files.keys()
    assert {"/srv/stack/inventories/prod/hosts.yml", "/srv/stack/inventories/prod/ca/ca.key"} <= files.keys()
    assert [path for path in files if "/." in path or "__pycache__" in path or "/tests" in path] == []


def test_what_plugins_read_is_there(files: dict[str, dict]) -> None:
    read = {
        name
        for file in (ROOT / "plugins").rglob("*.py")
        for name in re.findall(r'parents\[2\] / "([^"]+)"', file.read_text())
    }
    assert "docs/runbooks.md" in read
    assert {f"/srv/stack/{name}" for name in read} <= files.keys()


def test_file_that_is_no_text_stays(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/frontend.zip").write_bytes(b"PK\x03\x04\x89")
    (tmp_path / "files/motd").write_text("hello\n")
    names = {Path(item["path"]).name for item in drift.project_files(str(ROOT), str(tmp_path), "/srv/stack", "checker")}
    assert "motd" in names and "frontend.zip" not in names


def test_builds_are_files_and_not_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / "minio-1" / "pkg").mkdir(parents=True)
    (tmp_path / "minio-1" / "minio").touch()
    (tmp_path / "minio-1" / ".minio.new").touch()
    assert drift.builds(str(tmp_path)) == ["minio-1/minio"]


@pytest.mark.parametrize(
    ("role", "variable"),
    [("grafana", "__grafana_package"), ("minio", "__minio_build"), ("restapi", "__restapi_packages")],
)
def test_builds_of_roles_are_where_it_looks(role: str, variable: str, tmp_path: Path) -> None:
    declared = yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text())[variable]
    values = {
        "topology_controller_builds_dir": str(tmp_path),
        "grafana_package_sha256": "0123456789abcdef" * 4,
        "__minio_source": "1",
    }
    file = Path(Templar(DataLoader(), values).template(trust_as_template(declared)))
    file.parent.mkdir(parents=True)
    file.touch()
    assert drift.builds(str(tmp_path)) == [str(file.relative_to(tmp_path))]


def test_only_the_group_reads_it_and_the_inventory_is_not_shown(files: dict[str, dict]) -> None:
    assert {item["group"] for item in files.values()} == {"checker"}
    assert {item["mode"] for item in files.values()} == {"0640", "0750"}
    assert files["/srv/stack/scripts/vault-password"]["mode"] == "0750"
    shown = [path for path, item in files.items() if "content" in item and not item["sensitive"]]
    assert not any("/inventories/" in path for path in shown)
    assert all(item["purge"] for item in files.values() if item.get("state") == "directory")

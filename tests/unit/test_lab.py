"""The parts of the lab that need no Docker: its package sources, and the inventory that it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from mlfleet.lab.hosts import Releases, free_address, one_lab_at_a_time
from mlfleet.lab.image import debian_sources, image_tag
from mlfleet.lab.inventory import LabInventory, lab_variables, public_line
from mlfleet.project import MlfleetError

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main contrib
"""
THIRD_PARTY = """\
Types: deb
URIs: https://vendor.example.com/linux/debian
Suites: bookworm
Components: stable main
Signed-By: /usr/share/keyrings/vendor.gpg
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    return tmp_path / "apt"


def stanzas(text: str) -> list[dict[str, str]]:
    return [dict(line.split(": ", 1) for line in stanza.strip().splitlines()) for stanza in text.split("\n\n")]


def test_own_release_takes_the_controllers_archives(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    found = [(stanza["URIs"], stanza["Suites"], stanza["Components"]) for stanza in stanzas(debian_sources(12, apt))]
    assert found == [
        ("http://mirror.example.org/debian", "bookworm", "main"),
        ("http://mirror.example.org/debian", "bookworm-updates", "main"),
        ("http://mirror.example.org/debian-security", "bookworm-security", "main contrib"),
    ]


def test_other_release_takes_the_same_mirror(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    found = stanzas(debian_sources(13, apt))
    assert [stanza["Suites"] for stanza in found] == ["trixie", "trixie-updates", "trixie-security"]
    assert {stanza["Signed-By"] for stanza in found} == {"/usr/share/keyrings/debian-archive-keyring.gpg"}


def test_one_line_format_is_read(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://old.example.org/debian bookworm main\n"
        "deb [arch=amd64] http://mirror.example.org/debian/ bookworm main non-free-firmware # ours\n"
        "deb-src http://mirror.example.org/debian/ bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
    )
    (found,) = stanzas(debian_sources(12, apt))
    assert (found["URIs"], found["Components"]) == ("http://mirror.example.org/debian/", "main non-free-firmware")


def test_third_party_and_disabled_archives_are_left_out(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    (apt / "sources.list.d/vendor.sources").write_text(THIRD_PARTY)
    (apt / "sources.list.d/off.sources").write_text(
        DEB822.replace("Types: deb", "Enabled: no\nTypes: deb").replace("mirror", "off")
    )
    (apt / "sources.list.d/hub.list").write_text("deb https://hub.example.com/apt bookworm main\n")
    assert {stanza["URIs"].split("/")[2] for stanza in stanzas(debian_sources(12, apt))} == {"mirror.example.org"}


def test_controller_without_debian_archives_is_told_so(apt: Path) -> None:
    (apt / "sources.list.d/vendor.sources").write_text(THIRD_PARTY)
    with pytest.raises(MlfleetError, match="no Debian archive"):
        debian_sources(12, apt)


def test_changed_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_tag(12)
    assert before.startswith("mlfleet-lab:debian12-") and before != image_tag(13)
    monkeypatch.setattr("mlfleet.lab.image.PACKAGES", ("systemd",))
    assert image_tag(12) != before


def test_address_is_the_first_that_is_free() -> None:
    assert free_address("192.0.2.0/29", {"192.0.2.2", "192.0.2.4"}) == "192.0.2.3"
    with pytest.raises(MlfleetError, match="full"):
        free_address("192.0.2.0/30", {"192.0.2.2"})


@pytest.fixture
def like(tmp_path: Path) -> Path:
    directory = tmp_path / "single"
    (directory / "group_vars/all").mkdir(parents=True)
    (directory / "hosts.yml").write_text(
        "all: {children: {redis: {hosts: {node1: {ansible_host: 203.0.113.1, topology_address: 198.51.100.1}}},"
        " nginx: {hosts: {node2: }}}}\n"
    )
    (directory / "group_vars/all/main.yml").write_text("ansible_user: root\n")
    (directory / "group_vars/all/vault.yml").write_text("not for the lab\n")
    return directory


def test_hosts_of_a_lab_are_reached_as_the_lab_says(lab: LabInventory, like: Path) -> None:
    (like / "host_vars").mkdir()
    (like / "host_vars/node1.yml").write_text(
        "ansible_host: 203.0.113.1\nansible_ssh_common_args: >-\n  -o ProxyJump=gate\ntopology_address: 198.51.100.1\n"
        "redis_maxmemory_mb: 64\n"
    )
    lab.create(like)
    assert (lab.path / "host_vars/node1.yml").read_text() == "redis_maxmemory_mb: 64\n"


@pytest.fixture
def lab(tmp_path: Path) -> LabInventory:
    return LabInventory(tmp_path / "a lab's parent/lab")


def test_copy_has_everything_but_the_vault(lab: LabInventory, like: Path) -> None:
    assert lab.create(like)
    assert (lab.path / "group_vars/all/main.yml").exists() and not (lab.path / "group_vars/all/vault.yml").exists()
    assert lab.hosts() == ["node1", "node2"]


def test_lab_is_nobodys_to_commit(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    subprocess.run(["git", "init", "--quiet", str(lab.path.parent)], check=True)
    status = ["git", "-C", str(lab.path.parent), "status", "--porcelain"]
    assert subprocess.run(status, capture_output=True, text=True, check=True).stdout == ""


def test_vault_that_is_already_there_is_kept(lab: LabInventory, like: Path) -> None:
    vault = lab.path / "group_vars/all/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text("ours\n")
    lab.create(like)
    assert vault.read_text() == "ours\n"


def test_made_lab_is_not_copied_again(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    lab.write_overlay({"node1": "192.0.2.2", "node2": "192.0.2.3"})
    (lab.path / "group_vars/all/main.yml").write_text("changed: true\n")
    assert not lab.create(like)
    assert (lab.path / "group_vars/all/main.yml").read_text() == "changed: true\n"


def test_interrupted_copy_is_finished_from_where_it_began(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    (lab.path / "group_vars/all/main.yml").unlink()
    assert lab.create(like.with_name("another"))
    assert (lab.path / "group_vars/all/main.yml").exists()


def test_inventory_that_is_no_lab_is_refused_and_left_alone(like: Path, tmp_path: Path) -> None:
    with pytest.raises(MlfleetError, match="is not a lab"):
        LabInventory(like).create(tmp_path)
    with pytest.raises(MlfleetError, match="is not a lab yet"):
        LabInventory(like).addresses()


def test_host_taken_out_of_the_inventory_is_gone(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    lab.write_overlay({"node1": "192.0.2.2", "node2": "192.0.2.3"})
    (lab.path / "hosts.yml").write_text("all: {hosts: {node2: }}\n")
    assert lab.hosts() == ["node2"]


@pytest.mark.parametrize("name", ["Node 1", "node1/x", "-node"])
def test_name_that_no_container_can_have_is_refused(lab: LabInventory, like: Path, name: str) -> None:
    (like / "hosts.yml").write_text(json.dumps({"all": {"hosts": {name: None}}}))
    lab.create(like)
    with pytest.raises(MlfleetError, match="not a container name"):
        lab.hosts()


def test_ansible_reaches_lab_hosts_by_their_own_address_user_and_key(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    lab.create_key()
    lab.write_overlay({"node1": "192.0.2.2", "node2": "192.0.2.3"})
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(lab.path), "--host", "node1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    variables = json.loads(done.stdout)
    assert (variables["ansible_host"], variables["ansible_user"]) == ("192.0.2.2", "ops")
    assert variables["topology_address"] == "192.0.2.2"  # not the one of the copied inventory
    assert variables["ansible_ssh_private_key_file"] == str(lab.key)
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert not done.stderr, "Ansible took .ssh or the marker for an inventory"


def test_writing_the_same_again_changes_nothing(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    for changed in (True, False):
        assert lab.write_overlay({"node1": "192.0.2.2"}) is changed
        assert lab.write_variables(lab_variables(certificates=True, index_url=None)) is changed


def test_key_is_made_once_and_is_the_owners_alone(lab: LabInventory, like: Path) -> None:
    lab.create(like)
    assert lab.create_key() == lab.create_key()
    assert lab.key.stat().st_mode & 0o777 == 0o600 and lab.key.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs an ssh client")
def test_ssh_accepts_a_directory_with_a_space(lab: LabInventory) -> None:
    command = lab.ssh_command("192.0.2.2", "-G")
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    assert f'userknownhostsfile "{lab.known_hosts}"' in done.stdout or str(lab.known_hosts) in done.stdout


def test_known_hosts_line_has_no_comment() -> None:
    assert public_line("192.0.2.2", "ssh-ed25519 AAAA root@node1\n") == "192.0.2.2 ssh-ed25519 AAAA\n"


def test_network_of_the_controller_is_lab_data_only_where_there_is_something_to_say() -> None:
    assert lab_variables(certificates=False, index_url=None) == {
        "python_app_cache_dir": "/var/cache/mlfleet/uv",
        "minio_root_drives_allowed": True,
    }
    environment = lab_variables(certificates=True, index_url="https://index.example.org/simple")[
        "python_app_environment"
    ]
    assert set(yaml.safe_load(json.dumps(environment))) == {
        "SSL_CERT_FILE",
        "PIP_CERT",
        "UV_INDEX_URL",
        "PIP_INDEX_URL",
    }


def test_removal_leaves_nothing_and_the_marker_goes_last(
    lab: LabInventory, like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.create(like)
    lab.create_key()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            lab.remove()
    assert lab.marker.exists()
    lab.remove()
    assert not lab.path.exists()


def test_releases_are_given_for_all_or_for_one():
    releases = Releases.parse(["13", "db1=12"])
    assert [releases.of(host) for host in ("db1", "api1")] == [12, 13]
    assert Releases.parse([]).of("db1") == 12
    with pytest.raises(MlfleetError, match="Debian 11 is not available: choose 12 or 13"):
        Releases.parse(["db1=11"])


def test_link_of_a_stranger_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with one_lab_at_a_time():
        [lock] = tmp_path.iterdir()
    lock.unlink()
    (tmp_path / "victim").write_text("text")
    lock.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), one_lab_at_a_time():
        pytest.fail("has it")
    assert (tmp_path / "victim").read_text() == "text"

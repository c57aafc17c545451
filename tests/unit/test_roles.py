"""Every role has the same shape, and its public interface is described."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlfleet.stack.plugins.plugin_utils.services import SERVICES, WORKERS

ROOT = Path(__file__).parent.parent.parent
SPECS = {"topology": "meta/shared_settings"}  # where they are not in the usual file
SITE_ROLES = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[0]["vars"]["site_roles"]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(path: str) -> dict:
    file = ROOT / path
    return yaml.safe_load(file.read_text()) or {} if file.exists() else {}


def load_all(path: str) -> dict:
    """A file, or those of a directory."""
    files = sorted((ROOT / path).glob("*.yml")) or [ROOT / f"{path}.yml"]
    return {name: value for file in files for name, value in load(str(file.relative_to(ROOT))).items()}


def specs(role: str) -> dict:
    if role == "topology":
        return load_all("roles/topology/meta/shared_settings")
    return load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", ROLES)
def test_specs_match_defaults(role: str) -> None:
    described = {name for name, option in specs(role).items() if not option.get("required")}
    assert_same(role, described, set(load_all(f"roles/{role}/defaults/main")))


def assert_same(of: str, described: set[str], defaults: set[str]) -> None:
    only = {"defaults": described - defaults, "the specs": defaults - described}
    lines = [f"{of}: {where} lack {', '.join(sorted(names))}" for where, names in only.items() if names]
    assert not lines, "\n".join(lines)


def test_settings_of_topology_are_described_in_the_file_of_their_name() -> None:
    directories = ("meta/shared_settings", "defaults/main")
    files = {file.name for directory in directories for file in (ROOT / "roles/topology" / directory).iterdir()}
    for file in sorted(files):
        described = load(f"roles/topology/meta/shared_settings/{file}")
        required = {name for name, option in described.items() if option.get("required")}
        assert_same(f"topology, {file}", described.keys() - required, {*load(f"roles/topology/defaults/main/{file}")})


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_described(role: str) -> None:
    files = [
        f"roles/{role}/{name}" for name in ("README.md", "meta/main.yml", SPECS.get(role, "meta/argument_specs.yml"))
    ]
    lacking = [file for file in files if not (ROOT / file).exists()]
    assert not lacking, f"{role}: lacks {', '.join(lacking)}"


@pytest.mark.parametrize("role", ROLES)
def test_names_carry_their_role(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in load_all(f"roles/{role}/defaults/main"))
    assert all(name.startswith(f"__{role}_") for name in load(f"roles/{role}/vars/main.yml"))


@pytest.mark.parametrize("role", ROLES)
def test_roles_of_groups_alone_depend_on_topology(role: str) -> None:
    """Ansible would load its files again each time that a play uses a building block."""
    file = f"roles/{role}/meta/main.yml"
    wanted = [{"role": "mlfleet.stack.topology"}] if role in SITE_ROLES else []
    assert load(file)["dependencies"] == wanted, f"{role}: {file} names other dependencies"


def test_no_role_names_variables_of_another_service() -> None:
    services = {"worker" if name == WORKERS else name for name in SERVICES}
    for role in services:
        names = {name for other in services - {role} for name in load(f"roles/{other}/defaults/main.yml")}
        for file in (ROOT / "roles" / role).rglob("*"):
            if file.suffix in {".yml", ".j2"}:
                words = set(re.findall(r"\w+", file.read_text()))
                assert not words & names, f"{file} names {words & names}"


def test_no_role_reads_what_another_one_registers() -> None:
    tasks = {role: "".join(file.read_text() for file in (ROOT / "roles" / role).rglob("*.yml")) for role in ROLES}
    for role, text in tasks.items():
        for name in re.findall(r"^ *register: (\w+)", text, re.MULTILINE):
            assert [other for other in ROLES if re.search(rf"\b{name}\b", tasks[other])] == [role], name


def test_readme_tables_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/role_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_settings_page_names_existing_variables() -> None:
    known = {name for role in ROLES for name in load_all(f"roles/{role}/defaults/main")}
    known |= {name for role in ROLES for name in specs(role)}
    rows = [line.split("|") for line in (ROOT / "docs/settings.md").read_text().splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z]\w+)`", row[2])}
    assert named
    assert named <= known, named - known


def options(specs: dict, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """Each with those that its entries have."""
    for name, option in specs.items():
        yield prefix + name, option
        yield from options(option.get("options") or {}, f"{prefix}{name}[].")


@pytest.mark.parametrize("role", ROLES)
def test_settings_of_ones_own_are_secret_or_say_that_they_are_shown(role: str) -> None:
    for name, option in options(specs(role)):
        if name.endswith(("environment", "_settings")) and not option.get("no_log"):
            told = str(option["description"])
            assert re.search(r"shown in diffs|diffs show them|without secrets", told, re.IGNORECASE), f"{name}: {told}"


def test_secret_environment_is_in_a_file_of_roots_that_is_not_shown() -> None:
    files = load("roles/unit/vars/main.yml")["__unit_files_of_unit"]
    found = [file for file in files if "unit_secret_environment" in str(file)]
    assert [(file["mode"], file["sensitive"], "group" in file) for file in found] == [("0600", True, False)]


@pytest.mark.parametrize(
    ("setting", "is_hidden"),
    [
        ("masterauth", True),
        ("requirepass", True),
        ("tls-key-file-pass", True),
        ("MasterAuth", True),
        ("timeout", False),
    ],
)
def test_password_among_the_settings_of_redis_is_not_shown(setting: str, is_hidden: bool) -> None:
    [file] = [
        file for file in load("roles/redis/vars/main.yml")["__redis_files"] if file["path"].endswith("redis.conf")
    ]
    templar = Templar(DataLoader(), {"redis_settings": {setting: "x"}})
    assert templar.template(trust_as_template(file["sensitive"])) is is_hidden


def test_options_of_ones_own_replace_none_of_the_roles() -> None:
    """A default that a role needs is lost when someone adds an option."""
    settings = {name: value for role in ROLES for name, value in load_all(f"roles/{role}/defaults/main").items()}
    described = {name: str(option["description"]) for role in ROLES for name, option in specs(role).items()}
    further = [name for name, text in described.items() if text.startswith("Further options")]
    assert {"serving_worker_options", "serving_api_options"} <= {*further}
    assert {name: settings[name] for name in further if settings[name]} == {}

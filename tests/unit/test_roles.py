"""Every role has the same shape, and its public interface is described."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(path: str) -> dict:
    file = ROOT / path
    return yaml.safe_load(file.read_text()) or {} if file.exists() else {}


def specs(role: str) -> dict:
    name = "shared_settings" if role == "topology" else "argument_specs"
    return load(f"roles/{role}/meta/{name}.yml")["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", ROLES)
def test_specs_match_defaults(role: str) -> None:
    described = {name for name, option in specs(role).items() if not option.get("required")}
    assert described == set(load(f"roles/{role}/defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES)
def test_names_carry_their_role(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in load(f"roles/{role}/defaults/main.yml"))
    assert all(name.startswith(f"__{role}_") for name in load(f"roles/{role}/vars/main.yml"))


@pytest.mark.parametrize("role", [role for role in ROLES if role != "topology"])
def test_every_role_depends_on_topology(role: str) -> None:
    assert load(f"roles/{role}/meta/main.yml")["dependencies"] == [{"role": "mlfleet.stack.topology"}]


def test_no_role_names_variables_of_another_service() -> None:
    services = {"postgres", "redis", "minio", "mlflow", "restapi", "pgadmin", "frontend", "nginx", "worker"}
    for role in services:
        names = {name for other in services - {role} for name in load(f"roles/{other}/defaults/main.yml")}
        for file in (ROOT / "roles" / role).rglob("*"):
            if file.suffix in {".yml", ".j2"}:
                words = set(file.read_text().replace("{", " ").replace("}", " ").split())
                assert not words & names, f"{file} names {words & names}"


def test_readme_tables_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/role_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_settings_page_names_existing_variables() -> None:
    known = {name for role in ROLES for name in load(f"roles/{role}/defaults/main.yml")}
    known |= {name for role in ROLES for name in specs(role)}
    rows = [line.split("|") for line in (ROOT / "docs/settings.md").read_text().splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z]\w+)`", row[2])}
    assert named
    assert named <= known, named - known

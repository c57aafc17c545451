"""The collection as users get it: built, installed into an empty path, and found there by its full names."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))


def run(*words: str | Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built")
    run("ansible-galaxy", "collection", "build", "--output-path", directory)
    return next(directory.glob("mlfleet-stack-*.tar.gz"))


@pytest.fixture(scope="module")
def environment(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("collections")
    settings = path / "ansible.cfg"
    settings.touch()
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(path), "ANSIBLE_CONFIG": str(settings)}
    install = ("ansible-galaxy", "collection", "install", "--offline", "--no-deps", archive, "--collections-path", path)
    run(*install, environment=environment)
    return environment


def test_archive_holds_the_collection_and_no_more(archive: Path) -> None:
    with tarfile.open(archive) as members:
        names = members.getnames()
    assert {name.split("/")[0] for name in names} == {
        *(
            "CHANGELOG.md",
            "COPYING",
            "FILES.json",
            "MANIFEST.json",
            "README.md",
            "constraints",
            "docs",
            "meta",
            "playbooks",
            "plugins",
        ),
        *("requirements.yml", "roles"),
    }
    assert not [name for name in names if "__pycache__" in name or "vault" in name]


@pytest.mark.parametrize("module", MODULES)
def test_module_has_its_page(environment: dict[str, str], module: str) -> None:
    page = run("ansible-doc", "-t", "module", f"mlfleet.stack.{module}", environment=environment)
    assert f"mlfleet.stack.{module}" in page
    assert "EXAMPLES:" in page


def test_roles_have_their_pages(environment: dict[str, str]) -> None:
    listed = run("ansible-doc", "-t", "role", "--list", "mlfleet.stack", environment=environment)
    assert all(f"mlfleet.stack.{path.name}" in listed for path in (ROOT / "roles").iterdir())


def test_playbooks_resolve_from_the_installed_collection(environment: dict[str, str]) -> None:
    run(
        "ansible-playbook",
        "mlfleet.stack.site",
        "-i",
        "inventories/prod/hosts.yml",
        "--list-tasks",
        environment=environment,
    )

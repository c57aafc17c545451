"""A small project like this one, over hosts that are this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
COLLECTIONS = HERE.parents[2] / ".ansible/collections"


@pytest.fixture(scope="session", autouse=True)
def collections() -> None:
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)


@pytest.fixture(scope="session")
def make_project() -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        root = shutil.copytree(HERE / "project", directory / "project")
        me = {"me": str(os.geteuid()), "my_group": str(os.getegid())}
        (root / "inventory/group_vars/all/me.yml").write_text(yaml.safe_dump(me))
        return root

    return make


@pytest.fixture
def project(make_project: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def declare(project: Path) -> Callable[..., None]:
    """Set variables of all hosts, or of one."""

    def write(host: str | None = None, **variables: object) -> None:
        path = project / "inventory" / (f"host_vars/{host}.yml" if host else "group_vars/all/test.yml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(variables))

    return write

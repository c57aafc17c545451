"""The parts of its host that a container sees, and its image."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.filter import unit
from ansible_collections.mlfleet.stack.plugins.module_utils import containers
from ansible_collections.mlfleet.stack.plugins.modules import container_image

NAME = "registry.example.org:5000/mlfleet/redis:0123"
DIGEST = "registry.example.org:5000/mlfleet/redis@sha256:aa"


def test_paths_have_the_same_names_in_the_container():
    assert unit.bind_mounts(["/etc/redis"], ["/var/lib/redis"]) == [
        "type=bind,source=/etc/redis,target=/etc/redis,readonly",
        "type=bind,source=/var/lib/redis,target=/var/lib/redis",
    ]


def test_data_that_is_mounted_later_is_seen():
    mounts = [
        {"source": "nas:/data", "path": "/data"},
        {"source": "/srv/results", "path": "/results", "read_only": False},
    ]
    assert unit.bind_mounts([], [], mounts) == [
        "type=bind,source=/data,target=/data,bind-propagation=rslave,readonly",
        "type=bind,source=/results,target=/results,bind-propagation=rslave",
    ]


def test_writable_path_is_not_read_only():
    assert unit.bind_mounts(["/data"], ["/data"]) == ["type=bind,source=/data,target=/data"]


@pytest.mark.parametrize(
    ("name", "known", "digest"),
    [
        (NAME, [DIGEST], DIGEST),
        (NAME, ["other.example.org/mlfleet/redis@sha256:aa", DIGEST], DIGEST),
        (NAME, ["other.example.org/mlfleet/redis@sha256:aa"], ""),
        (NAME, [], ""),
        (NAME, None, ""),
        ("redis", ["redis@sha256:bb"], "redis@sha256:bb"),
        ("redis@sha256:bb", ["redis@sha256:bb"], "redis@sha256:bb"),
        ("registry:5000/redis", ["registry:5000/redis@sha256:cc"], "registry:5000/redis@sha256:cc"),
    ],
)
def test_digest_is_that_of_the_names_own_registry(name, known, digest):
    assert containers.digest({"RepoDigests": known}, name) == digest


class Registry:
    """Replaces docker by an engine and a registry, each with or without images."""

    def __init__(self, here=False, there=False, is_up=True):
        self.here, self.there, self.is_up, self.done = here, there, is_up, []

    def docker(self, *words, environment=None):
        self.done.append(words[0])
        if words[0] in ("pull", "push") and not self.is_up:
            raise containers.DockerError("connection refused")
        if words[0] == "pull" and not self.there:
            raise containers.DockerError(f"manifest for {NAME} not found: manifest unknown")
        self.here |= words[0] in ("pull", "build")
        self.there |= words[0] == "push"
        return ""

    def find_image(self, name):
        return {"RepoDigests": [DIGEST] if self.there else []} if self.here else None


@pytest.mark.parametrize(
    ("engine", "changes", "done", "is_mine"),
    [
        (Registry(), {"registry": ""}, ["build"], True),
        (Registry(), {}, ["pull", "build", "push"], True),
        (Registry(there=True), {}, ["pull"], True),
        (Registry(), {"missing": "tell"}, ["pull"], False),
        (Registry(there=True), {"missing": "fail"}, ["pull"], True),
        # Left by another host, which never pushed it.
        (Registry(here=True, there=True), {"missing": "fail"}, ["pull"], True),
        # Killed between building and pushing.
        (Registry(here=True), {}, ["push"], True),
        (Registry(there=True), {"dockerfile": "", "registry": ""}, ["pull"], True),
    ],
)
def test_image_is_built_only_where_nobody_has_it(monkeypatch, tmp_path, engine, changes, done, is_mine):
    monkeypatch.setattr(container_image, "docker", engine.docker)
    monkeypatch.setattr(container_image, "find_image", engine.find_image)
    for name in ("make_context", "apt_settings", "apt_accounts"):
        monkeypatch.setattr(container_image, name, lambda *_arguments: "")
    assert container_image.have(options(**changes), tmp_path) is is_mine
    assert engine.done == done


def test_registry_that_is_away_is_no_reason_to_build(monkeypatch, tmp_path):
    engine = Registry(is_up=False)
    monkeypatch.setattr(container_image, "docker", engine.docker)
    monkeypatch.setattr(container_image, "find_image", engine.find_image)
    with pytest.raises(containers.DockerError, match="connection refused"):
        container_image.have(options(), tmp_path)
    assert engine.done == ["pull"]


def options(**changes):
    return {
        "name": NAME,
        "dockerfile": "FROM debian",
        "base": "debian",
        "base_archive": None,
        "environment": {},
        "registry": "registry.example.org:5000",
        "registry_username": "",
        "missing": "build",
        "revision": "",
    } | changes

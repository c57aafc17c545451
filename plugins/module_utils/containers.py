# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker by its command line, which units use too, so that hosts need no library for it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

IMAGE_LABEL = "mlfleet.image"  # of an image that was built here; its value is the program's name
LOG_LINES = 25
# What a registry says of an image that it does not have.
UNKNOWN = ("manifest unknown", "not found", "name unknown", "does not exist")

IMAGE_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "dockerfile": {"type": "str", "default": ""},
    "files": {"type": "dict", "default": {}},
    "programs": {"type": "dict", "default": {}},
    "base": {"type": "str", "default": ""},
    "base_archive": {"type": "path"},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "registry": {"type": "str", "default": ""},
    "registry_username": {"type": "str", "default": ""},
    "registry_password": {"type": "str", "default": "", "no_log": True},
    "missing": {"type": "str", "choices": ["build", "tell", "fail"], "default": "build"},
    "push_again": {"type": "bool", "default": False},
    "revision": {"type": "str", "default": ""},
    "prune": {"type": "bool", "default": False},
    "reference_file": {"type": "path"},
}


class DockerError(Exception):
    """A command that Docker refused; the message holds its last words."""


def docker(*words: str, environment: dict[str, str] | None = None) -> str:
    """What a command of Docker's prints."""
    variables = {**os.environ, "DOCKER_BUILDKIT": "1", **(environment or {})}
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, env=variables)
    except FileNotFoundError:
        raise DockerError("there is no Docker on this host; run site.yml from its start") from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise DockerError(f"docker {words[0]} fails:\n" + "\n".join(lines[-LOG_LINES:]))
    return done.stdout


def find_image(name: str) -> dict[str, Any] | None:
    """What the engine knows of an image; nothing when it does not have it, or when there is no engine yet."""
    try:
        found: list[dict[str, Any]] = json.loads(docker("image", "inspect", name))
    except DockerError:
        return None
    return found[0]


def digest(image: dict[str, Any], name: str) -> str:
    """The name by which a registry knows this very image; empty when it came from none."""
    repository = name.partition("@")[0]
    # A port of the registry has a colon too.
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    known = [each for each in image.get("RepoDigests") or [] if each.partition("@")[0] == repository]
    return known[0] if known else ""

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker through its command line, which units use too, so that hosts need no library for it."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import trials
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import QUESTION_SECONDS, WORK_SECONDS, run

IMAGE_LABEL = "mlfleet.image"  # label of an image built here; its value is the program's name
LOG_LINES = 25
# A registry's messages about an image that it does not have.
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
    "trial": trials.OPTION,
}


WORK = ("build", "import", "pull", "push")


class DockerError(Exception):
    """A command that Docker refused; the message contains the end of its output."""


class NoDockerError(DockerError):
    """There is no Docker on this host, such as in a check of a fresh one."""


def docker(*words: str, environment: dict[str, str] | None = None, seconds: float | None = None) -> str:
    """Run a Docker command and return its output."""
    variables = {**os.environ, "DOCKER_BUILDKIT": "1", **(environment or {})}
    bound = seconds or (WORK_SECONDS if words[0] in WORK else QUESTION_SECONDS)
    try:
        done = run(["docker", *words], bound, env=variables)
    except FileNotFoundError:
        raise NoDockerError("there is no Docker on this host; run site.yml from its start") from None
    except TimeoutError as error:
        raise DockerError(f"the engine does not answer: {error}") from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise DockerError(f"docker {words[0]} fails:\n" + "\n".join(lines[-LOG_LINES:]))
    return done.stdout


def find_image(name: str) -> dict[str, Any] | None:
    """Return what the engine knows about an image; nothing if it does not have it, or if there is no Docker yet.

    Raises:
        DockerError: the engine exists but does not answer.
    """
    try:
        found: list[dict[str, Any]] = json.loads(docker("image", "inspect", name))
    except NoDockerError:
        return None
    except DockerError as error:
        if "no such image" in str(error).lower():
            return None
        raise
    return found[0]


def digest(image: dict[str, Any], name: str) -> str:
    """Return the name by which a registry identifies exactly this image; empty if it came from none."""
    repository = name.partition("@")[0]
    # A registry's port also contains a colon.
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    known = [each for each in image.get("RepoDigests") or [] if each.partition("@")[0] == repository]
    return known[0] if known else ""

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try a new version of a program with its real data before it replaces the one in use."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.common.warnings import warn
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run

OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "program": {"type": "str", "required": True},
        "arguments": {"type": "list", "elements": "str", "default": []},
        "environment": {"type": "dict", "default": {}, "no_log": True},
        "python": {"type": "path", "default": "/usr/bin/python3"},
        "paths": {"type": "list", "elements": "path", "default": []},
    },
}
SECONDS = 600
NOT_RUN = (125, 126, 127)  # exit codes of docker and a shell if the program was not run
# Program and environment are passed on standard input, so that neither arguments nor docker inspect show them.
LOADER = """
import json, os, sys
told = json.load(sys.stdin)
os.environ.update(told["environment"])
exec(compile(told["program"], "trial", "exec"))
"""
CONTAINER = [
    *("docker", "run", "--rm", "--interactive", "--log-driver=none", "--network=host", "--read-only", "--tmpfs=/tmp"),
    *("--user=0:0", "--cap-drop=ALL", "--cap-add=DAC_READ_SEARCH", "--security-opt=no-new-privileges"),
]


class RefusedError(Exception):
    """The new version failed its trial; the message is the last line that the trial printed."""


def hold_in_environment(python: Path, trial: dict[str, Any]) -> None:
    """Try the environment of this interpreter with the program."""
    _hold([str(python)], trial)


def hold_in_image(image: str, trial: dict[str, Any]) -> None:
    """Do the same in a container of the image, which can read the given paths of the host, but not change them."""
    paths = [path for path in trial["paths"] if Path(path).exists()]
    mounts = [f"--mount=type=bind,src={path},dst={path},readonly" for path in paths]
    name = f"mlfleet-trial-{os.getpid()}"
    try:
        _hold([*CONTAINER, *mounts, f"--name={name}", "--entrypoint", trial["python"], image], trial)
    finally:  # a container keeps running after its client was killed
        run(["docker", "rm", "--force", name])


def _hold(python: list[str], trial: dict[str, Any]) -> None:
    told = json.dumps({"program": trial["program"], "environment": trial["environment"]})
    words = [*python, "-c", LOADER, *trial["arguments"]]
    try:
        done = run(words, SECONDS, input=told, stderr=subprocess.STDOUT, cwd="/")
    except TimeoutError:
        raise RefusedError(f"its trial did not end within {SECONDS} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode in NOT_RUN:
        raise RefusedError(f"its trial could not be run: {' '.join(lines[:3])}")
    if done.returncode != 0:
        raise RefusedError((lines or [f"its trial ended with {done.returncode}"])[-1])
    if lines:
        warn(lines[-1])

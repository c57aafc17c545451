# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a Git repository at a tag, branch or commit."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

SECONDS = 300
COMMIT = re.compile(r"[0-9a-f]{40}")
ASK_NOBODY = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}


class GitError(Exception):
    """One line for the user, without an account that the URL may name."""


def commit_of(url: str, reference: str) -> str:
    """What the reference names there now; a whole commit is itself."""
    if COMMIT.fullmatch(reference):
        return reference
    lines = _git(["ls-remote", "--", url, reference], url).splitlines()
    if not lines:
        raise GitError(f"{without_account(url)} has no tag or branch {reference!r}")
    return lines[0].split()[0]


def check_out(url: str, reference: str, directory: Path) -> Path:
    """The files, in a new directory."""
    _git(["init", "--quiet", str(directory)], url)
    _git(["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, reference], url, directory)
    _git(["checkout", "--quiet", "FETCH_HEAD"], url, directory)
    return directory


def without_account(url: str) -> str:
    return re.sub(r"://[^@/\s]*@", "://", url)


def _git(words: list[str], url: str, directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=directory,
            env={**ASK_NOBODY, **os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise GitError("this controller has no git: install it") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"{without_account(url)} did not answer within {SECONDS} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))] or [
            "without a word"
        ]
        raise GitError(without_account(f"git {words[0]} of {url} failed: {said[0]}"))
    return done.stdout

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a Git repository at a tag, branch or commit."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 300
COMMIT = re.compile(r"[0-9a-f]{40}")
# With one of these, which hooks set, git would work in the caller's repository instead of the given one.
OF_THE_CALLER = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH"),
)
ASK_NOBODY = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}


class GitError(Exception):
    """One line for the user, without the account that the URL may contain."""


def commit_of(url: str, reference: str) -> str:
    """Return the commit that the reference names now; a full commit id is returned unchanged."""
    return _look_up(url, reference)[0]


def check_out(url: str, reference: str, directory: Path) -> Path:
    """Check out the files, in a new directory."""
    _commit, name = _look_up(url, reference)
    _git(["init", "--quiet", str(directory)], url)
    _git(["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, name], url, directory)
    _git(["checkout", "--quiet", "FETCH_HEAD"], url, directory)
    return directory


def _look_up(url: str, reference: str) -> tuple[str, str]:
    """Return the commit or tag object, and the full name of the reference; a tag takes precedence over a branch."""
    if COMMIT.fullmatch(reference):
        return reference, reference
    names = [f"refs/tags/{reference}", f"refs/heads/{reference}", reference]
    lines = _git(["ls-remote", "--", url, *names], url).splitlines()
    found = {name: commit for commit, name in (line.split("\t") for line in lines)}
    for name in filter(found.__contains__, names):
        return found[name], name
    raise GitError(f"{without_account(url)} has no tag or branch {reference!r}; give a commit with all its 40 digits")


def require_no_account(url: str) -> None:
    """Refuse a password or token in a URL, which would be in process lists and logs."""
    if url.startswith(("http://", "https://")) and urlsplit(url).username is not None:
        raise GitError(f"{without_account(url)} contains an account: use git's credential helper instead, or SSH")


def without_account(url: str) -> str:
    return re.sub(r"://[^@/\s]*@", "://", url)


def _git(words: list[str], url: str, directory: Path | None = None) -> str:
    require_no_account(url)
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_CALLER}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=directory,
            env={**ASK_NOBODY, **environment, "LC_ALL": "C"},
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

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A web application as files: found or built on the controller, and cached there."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils import archives, git
from ansible_collections.mlfleet.stack.plugins.module_utils.archives import ArchiveError, Files

ARCHIVE, INPUTS = "frontend.tar.gz", "inputs"
INDEX, PACKAGE, LOCK = "index.html", "package.json", "package-lock.json"
# The environment variables that a build gets.
GIVEN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+|(https?|all|no)_proxy|npm_config_\w+"
    r"|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)",
    re.IGNORECASE,
)
MINIMUM_NODE = 20
GIT_PREFIX = "git+"
UNVERSIONED = "0.0.0"  # version of a package that is never published
PROJECT, PROJECT_NAME = "pyproject.toml", "dioptra-platform"
NOT_SOURCE = {".git", "node_modules"}
COMPRESSED_SUFFIXES = {".css", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".txt", ".wasm", ".xml"}
COMPRESSED_FROM_BYTES = 1024
ERROR_LINES = 3
BUILD_SECONDS = 1800


class BuildError(Exception):
    """One line for the user, with the program's output if a program failed."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Source:
    """The user's declaration, with the options of C(frontend_build)."""

    source: str
    checksum: str
    ref: str
    directory: str
    build_command: str
    output_directory: str
    node: str

    @property
    def is_git(self) -> bool:
        return self.source.startswith(GIT_PREFIX)

    @property
    def is_archive_url(self) -> bool:
        return self.source.startswith(("http://", "https://"))

    @property
    def git_url(self) -> str:
        return self.source.removeprefix(GIT_PREFIX)

    def require_sense(self) -> None:
        git.require_no_account(self.git_url)
        if not (self.is_git or self.is_archive_url) and not self.source.startswith("/"):
            raise BuildError(
                f"frontend_source {self.source!r}: give an absolute path, e.g. {{{{ inventory_dir }}}}/files/dist.zip"
            )
        if self.is_git and not self.ref:
            raise BuildError(f"{self.source} needs frontend_ref: a tag, a branch or a commit")
        if self.is_archive_url and not self.checksum:
            raise BuildError(f"{self.source} needs frontend_checksum, its SHA-256; a repository is git+{self.source}")


@dataclass(frozen=True)
class Found:
    """An inspected source: what identifies it, and a function that returns its files and release."""

    inputs: str
    files: Callable[[], tuple[Files, str]]


def provide(source: Source, cache: Path, download: Callable[[str, Path], None], may_build: bool) -> dict[str, object]:
    """Bring the built application into the cache; C(download) writes the contents of a URL to a file."""
    archive, inputs = cache / ARCHIVE, cache / INPUTS
    if not may_build:
        if not archive.is_file():
            raise BuildError(f"there is no {archive}: run site.yml --tags frontend,drift where it is built")
        return {"changed": False, "archive": str(archive), "version": ""}
    source.require_sense()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlfleet-") as scratch:
        found = look(source, Path(scratch), download)
        kept = read_record(inputs) if archive.is_file() else {}
        is_kept = kept.get("inputs") == found.inputs
        if not is_kept:
            files, version = found.files()
            served = with_compressed(complete(files, source))
            kept = {"inputs": found.inputs, "version": version}
            inputs.unlink(missing_ok=True)  # so that it never describes another archive
            archives.write(archive, served)
            archives.save(inputs, json.dumps(kept).encode())
    return {"changed": not is_kept, "archive": str(archive), "version": kept["version"]}


def read_record(path: Path) -> dict[str, str]:
    """Return the record of the cached archive; nothing after a killed run."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def look(source: Source, scratch: Path, download: Callable[[str, Path], None]) -> Found:
    """Inspect the source, without building it."""
    if source.is_git:
        commit = git.commit_of(source.git_url, source.ref)
        inputs = digest([source.source, commit, source.directory, source.build_command, source.output_directory])
        return Found(inputs, lambda: _build_git(source, scratch / "clone"))
    if source.is_archive_url:
        return Found(digest([source.source, source.checksum]), lambda: (_download(source, scratch, download), ""))
    path = Path(source.source)
    if path.is_file():
        found = _sha256(path.read_bytes())
        _require_checksum(source, found)
        return Found(digest([found]), lambda: (archives.without_top(archives.read(path)), ""))
    if (path / PACKAGE).is_file():
        tree = read_directory(path, NOT_SOURCE | {source.output_directory})
        contents = [line for name, content in tree.items() for line in (name, _sha256(content))]
        inputs = digest([*contents, source.build_command, source.output_directory])
        return Found(inputs, lambda: (_build(source, _copy(path, scratch / "tree", source), str(path)), release(path)))
    if path.is_dir():
        files = read_directory(path)
        return Found(
            digest(part for name, content in files.items() for part in (name, _sha256(content))), lambda: (files, "")
        )
    raise BuildError(f"there is no {source.source}: frontend_source is a directory, an archive, a URL, or git+URL")


def complete(files: Files, source: Source) -> Files:
    """Return the files to serve, without hidden ones such as C(.git) and C(.env)."""
    if INDEX not in files:
        raise BuildError(
            f"{source.source} has no {INDEX} at its top: name the directory or archive of a finished build"
        )
    return {name: content for name, content in files.items() if not is_hidden(name)}


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != ".well-known" for part in name.split("/"))


def with_compressed(files: Files) -> Files:
    """Return the files, with a compressed copy of each for which it pays, for servers that can send it."""
    made = {
        f"{name}.gz": gzip.compress(content, mtime=0)
        for name, content in files.items()
        if Path(name).suffix in COMPRESSED_SUFFIXES and len(content) >= COMPRESSED_FROM_BYTES
    }
    return made | files


def read_directory(path: Path, without: Iterable[str] = ()) -> Files:
    """Return the files below a directory, except the given names at its top."""
    tops = (top for top in path.iterdir() if top.name not in set(without))
    found = sorted(item for top in tops for item in (top, *top.rglob("*")))
    for link in filter(Path.is_symlink, found):
        if link.is_dir():
            raise BuildError(f"{link} is a link to a directory: put the directory itself there")
        if not link.resolve().is_relative_to(path.resolve()):
            raise BuildError(f"{link} is a link to outside of {path}: put the file itself there")
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found if file.is_file()}


def release(tree: Path) -> str:
    """Return the release of a source tree: its package's, or that of the surrounding Dioptra; empty if unknown."""
    own = json.loads((tree / PACKAGE).read_text()).get("version", UNVERSIONED)
    if own != UNVERSIONED:
        return own
    for project in filter(Path.is_file, (parent / PROJECT for parent in tree.resolve().parents)):
        declared = tomllib.loads(project.read_text()).get("project", {})
        if declared.get("name") == PROJECT_NAME:
            return declared.get("version", "")
    return ""


def digest(parts: Iterable[str]) -> str:
    return _sha256("\0".join(parts).encode())


# --- archives --------------------------------------------------------------------------------------------------------


def _download(source: Source, scratch: Path, download: Callable[[str, Path], None]) -> Files:
    archive = scratch / "download"
    download(source.source, archive)
    _require_checksum(source, _sha256(archive.read_bytes()))
    try:
        return archives.without_top(archives.read(archive))
    except ArchiveError as error:
        raise BuildError(str(error).replace(str(archive), source.source)) from None


def _require_checksum(source: Source, found: str) -> None:
    wanted = source.checksum.removeprefix("sha256:").lower()
    if wanted and found != wanted:
        raise BuildError(
            f"{source.source} has the SHA-256 {found}, not {wanted}: correct frontend_checksum, or download it again"
        )


# --- building --------------------------------------------------------------------------------------------------------


def _build_git(source: Source, clone: Path) -> tuple[Files, str]:
    git.check_out(source.git_url, source.ref, clone)
    tree = (clone / source.directory).resolve()
    if not tree.is_relative_to(clone.resolve()):
        raise BuildError(f"frontend_directory {source.directory} is outside of the repository")
    if not (tree / PACKAGE).is_file():
        raise BuildError(
            f"{source.git_url} has no {source.directory}/{PACKAGE} at {source.ref}: correct frontend_directory"
        )
    return _build(source, tree, source.git_url), release(tree)


def _copy(path: Path, copy: Path, source: Source) -> Path:
    """Copy the tree, so that the build does not change the user's own."""
    left_out = NOT_SOURCE | {source.output_directory}

    def ignored(directory: str, names: list[str]) -> set[str]:
        return left_out & set(names) if Path(directory) == path else set()

    return Path(shutil.copytree(path, copy, ignore=ignored, ignore_dangling_symlinks=True))


def _build(source: Source, tree: Path, shown: str) -> Files:
    if not (tree / LOCK).is_file():
        raise BuildError(f"{shown} has no {LOCK}: run npm install there and keep the file that it writes")
    # npm itself starts the first node in the PATH.
    environment = {"PATH": f"{_node(source.node).parent}:{os.environ['PATH']}"}
    _run(["npm", "ci", "--no-audit", "--no-fund"], f"npm ci failed in {shown}", tree, environment)
    _run(["sh", "-c", source.build_command], f"{source.build_command} failed in {shown}", tree, environment)
    built = tree / source.output_directory
    if not built.is_dir():
        raise BuildError(f"{source.build_command} created no directory {source.output_directory} in {shown}")
    return read_directory(built)


def _node(node: str) -> Path:
    """Return the path of the program, if it is new enough."""
    program = shutil.which(node)
    if program is None:
        raise BuildError(
            f"there is no {node} on this controller: install Node {MINIMUM_NODE} or newer, or give a finished build"
        )
    version = _run([program, "--version"], f"{node} does not run").strip()
    if int(version.lstrip("v").partition(".")[0]) < MINIMUM_NODE:
        raise BuildError(f"{node} is {version}: install Node {MINIMUM_NODE} or newer, or name one in frontend_node")
    return Path(program)


def _run(
    words: list[str], failure: str, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its output."""
    # Third-party packages run in it, so the operator's environment, with its passwords, is not passed on.
    variables = {name: value for name, value in os.environ.items() if GIVEN.fullmatch(name)} | {**(environment or {})}
    try:
        done = subprocess.run(
            words,
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{failure}: it did not end within {BUILD_SECONDS} s") from None
    except OSError as error:
        raise BuildError(f"{failure}: {error}") from None
    if done.returncode != 0:
        output = done.stdout + done.stderr
        said = [line.strip() for line in output.splitlines() if line.strip()][-ERROR_LINES:]
        raise BuildError(f"{failure}: {' / '.join(said)}", output)
    return done.stdout


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

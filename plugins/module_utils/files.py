# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install directories and files together, all or nothing; both halves of config_files use it.

The controller parses and packs the items; the host plans (reads), validates and applies (writes) them.
Check mode is the same plan without the writing, so its prediction cannot differ from the run.
"""

# Whether a link is followed matters here, so system calls are used by their own names.
# ruff: noqa: PTH102, PTH114, PTH115, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import base64
import dataclasses
import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import filesystem, host_lock
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

VALIDATION_SECONDS = 60
_TEMPORARY = r"[0-9a-f]{16}\.mlfleet"
_ORDER = {"directory": 0, "file": 1, "absent": 2}


class FilesError(Exception):
    """One line for the user; nothing was changed."""


OURS = b"Made by mlfleet"
MADE = f"{OURS.decode()}; changes are undone by the next run."
MASK = "link to /dev/null"  # it keeps systemd from starting a package's unit


@dataclass(frozen=True)
class Item:
    """The desired state of a path."""

    path: str
    state: str = "file"
    content: str = ""
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    validate: str | None = None
    sensitive: bool = False
    purge: bool = False
    tell: bool = False  # for a directory: report other files in it
    records: bool = False  # for a directory: remove other files in it, and the files that these name
    only_ours: bool = False  # for a file to remove: one without OURS stays, unless it is a mask


@dataclass(frozen=True)
class State:
    """The state of a path. Owner and group are ids, or a name that the host does not know (yet)."""

    kind: str = "absent"
    owner: int | str = 0
    group: int | str = 0
    mode: int = 0
    content: bytes = b""

    def __str__(self) -> str:
        if self.kind == "absent":
            return self.kind
        owner = _name(self.owner, lambda uid: pwd.getpwuid(uid).pw_name)
        group = _name(self.group, lambda gid: grp.getgrgid(gid).gr_name)
        return f"{self.kind} {owner}:{group} {self.mode:04o}"


@dataclass(frozen=True)
class Change:
    """An item with its present and desired state, which may be equal."""

    item: Item
    before: State
    after: State

    @property
    def path(self) -> str:
        return self.item.path

    @property
    def needed(self) -> bool:
        return self.before != self.after

    @property
    def rewrites(self) -> bool:
        """Return whether a file is written, rather than only given another owner or mode."""
        return self.after.kind == "file" and (self.before.kind, self.before.content) != ("file", self.after.content)


# ---------------------------------------------------------------------------------------------------------------------
# Items: parsed on the controller, packed for transfer
# ---------------------------------------------------------------------------------------------------------------------


def parse(entries: list[dict[str, Any]]) -> list[Item]:
    """Turn the user's entries, already rendered and of the right types, into items, checked for consistency."""
    items = [_parse_entry(entry) for entry in entries]
    seen: set[str] = set()
    for item in items:
        if item.path in seen:
            raise FilesError(f"{item.path} is listed twice")
        seen.add(item.path)
    absent = {item.path for item in items if item.state == "absent"}
    for item in items:
        if gone := absent.intersection(_ancestors(item.path)):
            raise FilesError(f"{item.path} is in {gone.pop()}, which is declared absent")
    return items


def _parse_entry(entry: dict[str, Any]) -> Item:
    path, state, content = entry["path"], entry.get("state") or "file", entry.get("content")
    if not path.startswith("/"):
        raise FilesError(f"{path}: the path must be absolute")
    path = "/" + os.path.normpath(path).lstrip("/")
    if path == "/":
        raise FilesError("/ itself cannot be managed")
    if (content is None) == (state == "file"):
        raise FilesError(f"{path}: a file has a template or content, and nothing else has")
    if content is not None and not isinstance(content, str):
        raise FilesError(f"{path}: content must be text (to_nice_json and to_nice_yaml make it)")
    mode = entry.get("mode")
    if mode is None:
        mode = "0755" if state == "directory" else "0644"
    # A number here is an unquoted 0640, already read by YAML: too late to know what was meant.
    if not isinstance(mode, str) or not re.fullmatch("0?[0-7]{3,4}", mode):
        raise FilesError(f"{path}: the mode must be a quoted octal string such as '0640'")
    if entry.get("purge") and state != "directory":
        raise FilesError(f"{path}: only a directory can be purged")
    if entry.get("records") and state != "directory":
        raise FilesError(f"{path}: records are files in a directory")
    if entry.get("tell") and state != "directory":
        raise FilesError(f"{path}: tell is only for a directory")
    validate = entry.get("validate")
    if validate and (state != "file" or not any("%s" in word for word in _words(validate, path))):
        raise FilesError(f"{path}: validate belongs to a file and names it as %s")
    return Item(
        path=path,
        state=state,
        content=content or "",
        owner=entry.get("owner") or "root",
        group=entry.get("group") or "root",
        mode=mode,
        validate=validate or None,
        sensitive=bool(entry.get("sensitive")),
        purge=bool(entry.get("purge")),
        tell=bool(entry.get("tell")),
        records=bool(entry.get("records")),
        only_ours=bool(entry.get("only_ours")),
    )


def _words(command: str, path: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise FilesError(f"{path}: {command!r} is no command: {error}") from error


def pack(items: list[Item], **options: Any) -> str:
    """Pack items and options into one opaque word, so that hiding it hides nothing else in the result."""
    fields = [dataclasses.asdict(item) for item in items]
    return base64.b64encode(json.dumps({"files": fields, **options}).encode()).decode()


def unpack(payload: str) -> tuple[list[Item], dict[str, Any]]:
    options = json.loads(base64.b64decode(payload))
    return [Item(**fields) for fields in options.pop("files")], options


# ---------------------------------------------------------------------------------------------------------------------
# The host's half
# ---------------------------------------------------------------------------------------------------------------------


def install(
    items: list[Item],
    check_mode: bool = False,
    with_diff: bool = True,
    confirm: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Bring the host to the items' state, or in check mode report what would change.

    C(confirm) is called last, with the result so far; if it raises an error, everything is restored.
    """
    try:
        changes = plan(items)
        if not check_mode:
            _require_accounts(changes)
        needed = [change for change in changes if change.needed]
        validate(needed, check_mode)
        result = {
            "changed": bool(needed),
            "changed_paths": [change.path for change in needed],
            "paths": [item.path for item in items if item.state == "file"],
            "diff": diff(needed) if with_diff else [],
        }
        apply([] if check_mode else needed, lambda: confirm(result))
        return result | {"undeclared": _undeclared(items)}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise FilesError(f"{where}{error.strerror or error}; nothing was changed") from error


def plan(items: list[Item]) -> list[Change]:
    """Return every item, missing parent and stray file with its two states: directories, files, then removals."""
    wanted = _missing_parents(items) + items + _strays(items)
    changes = [Change(part, _observe(part), _wanted(part)) for item in wanted for part in _parts(item)]
    return sorted(changes, key=lambda c: (_ORDER[c.item.state], c.path.count("/") * (c.item.state == "directory")))


def validate(changes: list[Change], check_mode: bool) -> None:
    """Run each new file's validator on a copy that only we can access."""
    to_validate = [change for change in changes if change.item.validate and change.rewrites]
    if not to_validate:
        return
    with tempfile.TemporaryDirectory(prefix="mlfleet-") as scratch:
        for number, change in enumerate(to_validate):
            directory = os.path.join(scratch, str(number))
            os.mkdir(directory, 0o700)
            copy = os.path.join(directory, os.path.basename(change.path))
            _write(copy, change.after, strict=False)
            _run_validator(change, copy, check_mode)


def apply(changes: list[Change], confirm: Callable[[], None] = lambda: None) -> None:
    """Make the changes; each step registers how to undo it, until the last one has succeeded.

    C(confirm) is the last step; if it raises an error, everything is undone.
    """
    former: list[str] = []
    with ExitStack() as undo:
        for change in changes:
            if change.item.state == "directory":
                _apply_directory(change, undo)
        written = [(_write_beside(change, undo), change) for change in changes if change.rewrites]
        for temporary, change in written:
            if change.before.kind != "absent":
                former.append(_keep(change.path, undo))
            filesystem.rename(temporary, change.path)
            if change.before.kind == "absent":
                undo.callback(_unlink, change.path)
        for change in changes:
            if change.after.kind == "file" and not change.rewrites:
                undo.callback(_set_attributes, change.path, change.before)
                _set_attributes(change.path, change.after)
        for change in changes:
            if change.after.kind == "absent":
                former.append(_set_aside(change.path, undo))
        filesystem.sync_directories(change.path for change in changes)
        confirm()
        undo.pop_all()
    for path in former:
        remove(path)


def diff(changes: list[Change]) -> list[dict[str, str]]:
    """Return what Ansible shows with --diff: a line for kind, owner and mode, then the content unless sensitive."""
    entries = []
    for change in changes:
        texts = [(f"{change.before}\n", f"{change.after}\n")]
        if change.rewrites:
            texts.append(_contents(change))
        entries += [
            {"before_header": change.path, "after_header": change.path, "before": before, "after": after}
            for before, after in texts
            if before != after
        ]
    return entries


def _contents(change: Change) -> tuple[str, str]:
    if change.item.sensitive:
        return "(former content, sensitive: not shown)\n", "(new content, sensitive: not shown)\n"
    return _text(change.before.content), _text(change.after.content)


def _text(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    return f"(binary, sha256 {hashlib.sha256(content).hexdigest()})\n" if "\0" in text else text


# --- planning --------------------------------------------------------------------------------------------------------


def _ancestors(path: str) -> list[str]:
    """Return the directories from / down to the parent."""
    parts = path.split("/")
    return ["/".join(parts[:length]) or "/" for length in range(1, len(parts))]


def _missing_parents(items: list[Item]) -> list[Item]:
    listed = {item.path for item in items}
    missing: dict[str, Item] = {}
    for item in items:
        for parent in _ancestors(item.path) if item.state != "absent" else []:
            if parent not in listed and not os.path.lexists(parent):
                missing[parent] = Item(
                    parent, "directory", owner=str(os.geteuid()), group=str(os.getegid()), mode="0755"
                )
    return list(missing.values())


def _strays(items: list[Item]) -> list[Item]:
    """Return unlisted files: those in a purged directory, and temporary ones that a killed run left beside its targets.

    Temporary files of a run in progress are not among them.
    """
    recorded = _recorded(items)
    with host_lock.others_are_idle() as are_idle:
        found = _found_beside_and_inside(items + recorded)
    # A record goes last, so that a run which was killed is completed by the next.
    return recorded + [item for item in found if are_idle or not re.search(_TEMPORARY + "$", item.path)]


def _recorded(items: list[Item]) -> list[Item]:
    """Return the files that records name which are no longer listed."""
    listed = {item.path for item in items}
    return [Item(path, "absent", only_ours=True) for path in named_by_records(items, listed) if path not in listed]


def named_by_records(items: list[Item], listed: Collection[str] = ()) -> list[str]:
    """Return the files that records name, except the records that are listed."""
    records = [path for item in items if item.records for path in _entries(item.path) if path not in listed]
    return list(dict.fromkeys(_content(path).decode().strip() for path in records))


def _parts(item: Item) -> list[Item]:
    """Return the item, or if it is removed, its parts in this file system."""
    if item.state != "absent":
        return [item]
    return [dataclasses.replace(item, path=str(path)) for path in filesystem.without_mounts(Path(item.path))]


def _found_beside_and_inside(items: list[Item]) -> list[Item]:
    listed = {item.path for item in items}
    strays: dict[str, Item] = {}
    for item in items:
        pattern = re.compile(re.escape(f".{os.path.basename(item.path)}.") + _TEMPORARY)
        beside = [path for path in _entries(os.path.dirname(item.path)) if pattern.fullmatch(os.path.basename(path))]
        inside = _entries(item.path) if item.purge or item.records else []
        strays |= {path: Item(path, "absent") for path in beside + inside if path not in listed}
    return list(strays.values())


def _undeclared(items: list[Item]) -> list[dict[str, str]]:
    """Return files of others in the directories with C(tell)."""
    listed = {item.path for item in items}
    paths = [path for item in items if item.tell for path in _entries(item.path) if Path(path).is_file()]
    strays = [path for path in paths if path not in listed and OURS not in _content(path)]
    return [stray("file", path, ["rm", path]) for path in strays]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _entries(directory: str) -> list[str]:
    """Return the paths of everything in it except directories."""
    try:
        with filesystem.directory(directory) as descriptor, os.scandir(descriptor) as entries:
            names = sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.join(directory, name) for name in names]


def _observe(item: Item) -> State:
    try:
        found = _status(item)
    except FileNotFoundError:
        if os.path.islink(item.path):
            raise FilesError(f"{item.path} is a broken link") from None
        return State()
    content = b""
    if stat.S_ISREG(found.st_mode):
        kind = "file"
        if item.state == "file" or item.only_ours:
            content = filesystem.read(item.path)
    elif stat.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(found.st_mode):
        kind = f"link to {os.readlink(item.path)}"
    else:
        kind = "special file"
    if item.only_ours and OURS not in content and kind != MASK:
        return State()
    replaceable = kind == item.state or (kind.startswith("link") and item.state == "file")
    if item.state != "absent" and not replaceable:
        raise FilesError(f"{item.path} is a {kind}, but must be a {item.state}")
    return State(kind, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), content)


def _status(item: Item) -> os.stat_result:
    """Return the status; a directory may be behind a link that only root (or we) can have made."""
    with filesystem.parent(item.path) as (around, name):
        found = os.lstat(name, dir_fd=around)
    if item.state == "directory" and stat.S_ISLNK(found.st_mode) and found.st_uid in (0, os.geteuid()):
        with filesystem.directory(item.path) as descriptor:
            return os.fstat(descriptor)
    return found


def _wanted(item: Item) -> State:
    if item.state == "absent":
        return State()
    owner = _id(item.owner, lambda name: pwd.getpwnam(name).pw_uid)
    group = _id(item.group, lambda name: grp.getgrnam(name).gr_gid)
    return State(item.state, owner, group, int(item.mode, 8), item.content.encode())


def _id(name: str, look_up: Callable[[str], int]) -> int | str:
    try:
        return look_up(name)
    except KeyError:
        return int(name) if name.isdecimal() else name


def _name(account: int | str, look_up: Callable[[int], str]) -> str:
    try:
        return look_up(account) if isinstance(account, int) else account
    except KeyError:
        return str(account)


def _require_accounts(changes: list[Change]) -> None:
    missing = {f"user {change.after.owner}": change.path for change in changes if isinstance(change.after.owner, str)}
    missing |= {f"group {change.after.group}": change.path for change in changes if isinstance(change.after.group, str)}
    if missing:
        account, path = next(iter(missing.items()))
        raise FilesError(f"{path}: {account} does not exist; nothing was changed")


def _run_validator(change: Change, copy: str, check_mode: bool) -> None:
    command = [word.replace("%s", copy) for word in _words(change.item.validate or "", change.path)]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    # If the host does not have the program yet, a run installs it before this.
    if not shutil.which(command[0], path=path):
        if check_mode:
            return
        raise FilesError(f"{change.path}: there is no {command[0]} to validate it; nothing was changed")
    try:
        result = subprocess.run(
            command,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VALIDATION_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FilesError(
            f"{change.path}: {command[0]} took over {VALIDATION_SECONDS} s; nothing was changed"
        ) from error
    if result.returncode:
        output = result.stdout.decode(errors="replace").replace(copy, change.path).strip()
        if change.item.sensitive:
            output = "its output is not shown, because the file is sensitive"
        raise FilesError(f"{change.path} is not valid; nothing was changed. Its checker says: {output}")


# --- writing ---------------------------------------------------------------------------------------------------------


def _beside(path: str) -> str:
    """Return an unpredictable hidden name in the same directory, which no *.conf pattern matches."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.{secrets.token_hex(8)}.mlfleet")


def _write(path: str, state: State, strict: bool = True) -> None:
    """Write a new file to disk, inaccessible to others until it has its owner and mode."""
    descriptor = filesystem.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with open(descriptor, "wb") as file:
        file.write(state.content)
        file.flush()
        try:
            _attributes(descriptor, state)
        except (PermissionError, TypeError):
            if strict:
                raise
        os.fsync(descriptor)


def _attributes(descriptor: int, state: State) -> None:
    os.fchown(descriptor, state.owner, state.group)  # type: ignore[arg-type]
    # After the owner, because a change of owner clears the set-id bits.
    os.fchmod(descriptor, state.mode)


def _set_attributes(path: str, state: State) -> None:
    if state.kind == "directory":
        with filesystem.directory(path) as descriptor:
            _attributes(descriptor, state)
        return
    descriptor = filesystem.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _attributes(descriptor, state)
    finally:
        os.close(descriptor)


def _apply_directory(change: Change, undo: ExitStack) -> None:
    if change.before.kind == "absent":
        with filesystem.parent(change.path) as (around, name):
            os.mkdir(name, 0o700, dir_fd=around)
        undo.callback(_remove_directory, change.path)
    else:
        undo.callback(_set_attributes, change.path, change.before)
    _set_attributes(change.path, change.after)


def _remove_directory(path: str) -> None:
    """Remove a directory that we made, unless a program has put something into it meanwhile."""
    with filesystem.parent(path) as (around, name), suppress(OSError):
        os.rmdir(name, dir_fd=around)


def _write_beside(change: Change, undo: ExitStack) -> str:
    temporary = _beside(change.path)
    undo.callback(_unlink, temporary)
    _write(temporary, change.after)
    return temporary


def _keep(path: str, undo: ExitStack) -> str:
    """Give a second name to a file that is about to be replaced."""
    kept = _beside(path)
    with filesystem.parent(path) as (around, name):
        os.link(name, os.path.basename(kept), src_dir_fd=around, dst_dir_fd=around, follow_symlinks=False)
    undo.callback(_put_back, kept, path)
    return kept


def _put_back(kept: str, path: str) -> None:
    filesystem.rename(kept, path)
    # Renaming a file to another of its own names does nothing.
    _unlink(kept)


def _set_aside(path: str, undo: ExitStack) -> str:
    aside = _beside(path)
    filesystem.rename(path, aside)
    undo.callback(filesystem.rename, aside, path)
    return aside


def _unlink(path: str) -> None:
    with filesystem.parent(path) as (around, name), suppress(FileNotFoundError):
        os.unlink(name, dir_fd=around)


def remove(path: str) -> None:
    """Remove a file, or a directory with its contents."""
    try:
        with filesystem.parent(path) as (around, name):
            if stat.S_ISDIR(os.lstat(name, dir_fd=around).st_mode):
                shutil.rmtree(name, dir_fd=around)
            else:
                os.unlink(name, dir_fd=around)
    except OSError as error:
        raise FilesError(f"{path} remains: {error.strerror}") from error

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users and settings of a running Redis compared with its files, and reloading of its pair."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedRWPair
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import uid_of_peer

# Redis reports some rules in other words than they were given; those in IMPLIED follow from others.
SAME = {"allkeys": "~*", "allchannels": "&*", "allcommands": "+@all", "nocommands": "-@all"}
IMPLIED = {"resetchannels", "resetkeys", "resetpass", "sanitize-payload", "clearselectors", "reset"}
# Values that Redis reports as they are in its file; for auto it reports the result.
COMPARABLE = re.compile(r"([a-z][a-z0-9-]+) ((?!auto$)[a-z][a-z-]*|[0-9]+(?:[kmg]b?)?)", re.IGNORECASE)
# The first two it reports in other words, maxclients it lowers to what its limits allow, and the last are secrets.
NOT_COMPARED = re.compile("notify-keyspace-events|oom-score-adj|maxclients|masterauth|requirepass|.*-pass")
# The path of the file of users, in the file of settings.
ACL_FILE = re.compile(r"^\s*aclfile\s+\"?([^\s\"]+)", re.IGNORECASE | re.MULTILINE)
UNITS = {"k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


class RedisReplyError(Exception):
    """Redis' answer to a command that it refuses."""


def sign_in(connection: socket.socket, stream: BufferedRWPair, options: dict) -> None:
    """Sign in to the program whose user owns Redis' file, but not to another that took its port in the meantime.

    Raises:
        ConnectionError: it is another program, which did not get the password.
    """
    with suppress(RedisReplyError):
        ask(stream, "PING")  # its answer shows that the connection has been accepted
    if uid_of_peer(connection) != Path(options["config_file"]).stat().st_uid:
        raise ConnectionError("another program has the port of Redis")
    ask(stream, "AUTH", options["username"], options["password"])


def difference(connection: socket.socket, options: dict) -> str:
    """Return how the running Redis differs from its files, or an empty text if it does not or that is unknown."""
    try:
        with connection.makefile("rwb") as stream:
            sign_in(connection, stream, options)
            text = Path(options["config_file"]).read_text()
            return _other_users(stream, text) or _other_setting(stream, text)
    except RedisReplyError as error:
        # WRONGPASS means another password than in the file; otherwise the account lacks the permission to ask.
        return "its users differ from those in its file" if str(error).startswith("WRONGPASS") else ""


def take_pair(connection: socket.socket, options: dict, certificate: str, key: str) -> bool:
    """Load a new pair under the same names: setting them again makes Redis read them, and keeps all connections."""
    try:
        with connection.makefile("rwb") as stream:
            sign_in(connection, stream, options)
            ask(stream, "CONFIG", "SET", "tls-cert-file", certificate, "tls-key-file", key)
    except RedisReplyError:  # not repeated, since it could name the password
        return False
    return True


def _other_users(stream: BufferedRWPair, text: str) -> str:
    file = ACL_FILE.search(text)
    if not file:
        return ""
    categories = {name: set(ask(stream, "ACL", "CAT", name)) for name in ask(stream, "ACL", "CAT")}
    running = users(ask(stream, "ACL", "LIST"), categories)
    declared = users(Path(file[1]).read_text().splitlines(), categories)
    names = sorted(name for name in declared.keys() | running.keys() if declared.get(name) != running.get(name))
    return f"its users differ from those in its file: {', '.join(names)}" if names else ""


def _other_setting(stream: BufferedRWPair, text: str) -> str:
    for name, value in settings(text):
        told = ask(stream, "CONFIG", "GET", name)
        if told and told[1].lower() != value:
            return f"its setting {name} is {told[1]}, not {value}"
    return ""


def users(lines: Iterable[str], categories: dict[str, set[str]]) -> dict[str, tuple[set[str], set[str]]]:
    """Return each user's rules and allowed commands by name, because Redis words the same rights in many ways."""
    found = {}
    for line in lines:
        word, name, *rules = line.split() or [""] * 2
        if word == "user":
            rules = [SAME.get(rule, rule) for rule in rules]
            about_commands = [rule for rule in rules if rule[0] in "+-"]
            found[name] = (set(rules) - set(about_commands) - IMPLIED, commands(about_commands, categories))
    return found


def commands(rules: list[str], categories: dict[str, set[str]]) -> set[str]:
    """Return the commands that rules such as C(-@all +config) allow, subcommands as C(config|get); later rules win."""
    known = set().union(*categories.values())
    allowed: set[str] = set()
    for sign, name in ((rule[0], rule[1:].lower()) for rule in rules):
        if name == "@all":
            meant = known
        elif name.startswith("@"):
            meant = categories.get(name[1:], set())
        else:
            meant = {command for command in known if command == name or command.startswith(f"{name}|")}
        allowed = allowed | meant if sign == "+" else allowed - meant
    return allowed


def settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values in a configuration file, as far as they can be compared with Redis' answers."""
    for line in text.splitlines():
        if match := COMPARABLE.fullmatch(line.strip()):
            name, value = match[1].lower(), match[2].lower()
            if NOT_COMPARED.fullmatch(name):
                continue
            unit = value.lstrip("0123456789")
            is_size = value[0].isdigit() and unit in UNITS
            yield name, str(int(value.removesuffix(unit)) * UNITS[unit]) if is_size else value


def ask(stream: BufferedRWPair, *words: str) -> list[str]:
    """Return a command's answer, a status or text as a list of one; raise RedisReplyError if it is refused."""
    encoded = [word.encode() for word in words]
    stream.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
    stream.flush()
    return _reply(stream)


def _reply(stream: BufferedRWPair) -> list[str]:
    line = stream.readline().decode().rstrip("\r\n")
    if not line:
        raise ConnectionError("Redis has closed the connection")
    kind, value = line[0], line[1:]
    if kind in "$*" and not value.isdecimal():
        raise ConnectionError("the answer is not from Redis")
    if kind == "-":
        raise RedisReplyError(value)
    if kind == "$":
        return [stream.read(int(value) + 2)[:-2].decode()]
    if kind == "*":
        return [text for _element in range(int(value)) for text in _reply(stream)]
    return [value]

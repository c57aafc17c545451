# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Switch a service's TLS with a pair that was checked, or leave it unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.mlfleet.stack.plugins.module_utils import files, live
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError, Pair, Pem
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.take_up import (
    Service,
    ToggleError,
    check,
    is_behind,
    items,
    shown,
    take_up,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError, units

ARGUMENT_SPEC = {
    "service": {"type": "str", "required": True},
    "unit": {"type": "str"},
    "owner": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
    "certificate": {"type": "str"},
    "key": {"type": "path", "no_log": False},
    "key_text": {"type": "str", "no_log": True},
    "chain": {"type": "str"},
    "sources_changed": {"type": "bool", "default": False},
    "authorities": {"type": "list", "elements": "str", "default": ["/etc/ssl/certs/ca-certificates.crt"]},
    "names": {"type": "list", "elements": "str", "default": []},
    "minimum_days": {"type": "float", "default": 0},
    "directory": {"type": "path", "required": True},
    "certificate_file": {"type": "str", "default": "certificate.pem"},
    "key_file": {"type": "str", "default": "key.pem", "no_log": False},
    "client_authorities": {"type": "list", "elements": "str", "default": []},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "template": {"type": "str"},
            "content": {"type": "raw"},
            "vars": {"type": "dict", "default": {}},
        },
    },
    "checker": {"type": "list", "elements": "str", "default": []},
    "reload": {"type": "str", "choices": ["systemctl", "signal", "live"]},
    "reload_takes_files": {"type": "bool", "default": False},
    "live": live.OPTION,
    "address": {"type": "str", "required": True},
    "listen": {"type": "list", "elements": "str", "default": []},
    "tls_request": {"type": "str"},
    "plain_request": {"type": "str"},
    "timeout_seconds": {"type": "int", "default": 60},
}
CONDITIONS = {
    "required_if": [
        ("state", "enabled", ("certificate",)),
        ("state", "enabled", ("key", "key_text"), True),
        ("reload", "live", ("live",)),
    ],
    "mutually_exclusive": [("key", "key_text")],
}
READABLE_BY_OTHERS = 0o007
UNKNOWABLE = "made and taken up in this run"


def source(value: str, option: str) -> Pem:
    """Return the text, or the contents of a file on this host."""
    return certificates.read(value) if value.startswith("/") else certificates.text_of(value.encode(), option)


def key_of(options: dict) -> Pem:
    """Return the private key, from a file that others cannot read, or from the option's text."""
    path = options["key"]
    if not path:
        return certificates.text_of(options["key_text"].encode(), "key_text", "key")
    found = certificates.read(path, "key")
    if (mode := Path(path).stat().st_mode & 0o777) & READABLE_BY_OTHERS:
        raise CertificateError(
            f"{path}: others than its owner and group can read it (mode {mode:04o}): chmod o= {path}"
        )
    return found


def pair(options: dict) -> Pair:
    """Return the declared pair, checked.

    Raises:
        CertificateError: something is wrong with it.
    """
    return certificates.pair(
        source(options["certificate"], "certificate"),
        key_of(options),
        source(options["chain"], "chain") if options["chain"] else None,
        [source(value, "authorities") for value in options["authorities"]],
        options["names"],
        options["minimum_days"],
    )


def is_unknowable(options: dict) -> bool:
    """Return whether this is a check before the run that creates the sources, or installs the library to read them."""
    sources = [options["certificate"], options["key"] or "", *options["authorities"]]
    files_of_host = [value for value in sources if value.startswith("/")]
    missing = any(not Path(file).exists() for file in files_of_host)
    renewed = options["sources_changed"] and options["certificate"] in files_of_host
    return missing or renewed or certificates.IMPORT_ERROR is not None


def service_of(options: dict) -> Service:
    """Return the service as declared, still without a pair."""
    try:
        tls_request = bytes.fromhex(options["tls_request"] or "")
    except ValueError:
        raise ToggleError(f"{options['service']}: tls_request must be hexadecimal digits") from None
    return Service(
        unit=options["unit"] or options["service"],
        owner=options["owner"],
        directory=options["directory"],
        address=options["address"],
        certificate_file=options["certificate_file"],
        key_file=options["key_file"],
        settings={str(PurePosixPath(entry["path"])): entry["content"] for entry in options["files"]},
        listen=options["listen"],
        checker=options["checker"],
        reload=options["reload"],
        reload_takes_files=options["reload_takes_files"],
        live=options["live"],
        tls_request=tls_request,
        plain_request=f"{options['plain_request']}\r\n".encode() if options["plain_request"] else b"",
    )


def diff(changes: list, service: Service) -> list:
    """Show certificates by their contents, keys not at all, and settings verbatim."""
    path = service.certificate_path
    entries = [entry for entry in files.diff(changes) if entry["before_header"] != path]
    for change in changes:
        if change.path == path:
            after = str(service.pair.certificate) if service.pair else ""
            texts = {"before": certificates.described(change.before.content or former(path)), "after": after}
            entries.append({"before_header": path, "after_header": path, **texts})
    return entries


def former(path: str) -> bytes:
    return Path(path).read_bytes() if Path(path).is_file() else b""


def switch(options: dict, check_mode: bool) -> dict:
    """Bring the service's TLS to its declared state, or report what would change; return the module's result.

    Raises:
        ToggleError: the pair is not valid, or the service does not accept it; everything is unchanged.
    """
    service = service_of(options)
    enabled = options["state"] == "enabled"
    told = {"service": options["service"]}
    if enabled and check_mode and is_unknowable(options):
        path = service.certificate_path
        before = "" if certificates.IMPORT_ERROR else certificates.described(former(path))
        texts = {"before": before, "after": f"{UNKNOWABLE}\n"}
        return {
            "changed": True,
            "action": f"the pair would be {UNKNOWABLE}",
            "fingerprint": "",
            "speaks_tls": speaks_tls(service, enabled),
            "diff": [{"before_header": path, "after_header": path, **texts}],
        } | told
    if enabled and certificates.IMPORT_ERROR:
        raise ToggleError(missing_required_lib("cryptography"))
    try:
        declared = pair(options) if enabled else None
        clients = [certificates.authority(source(text, "client_authorities")) for text in options["client_authorities"]]
    except CertificateError as error:
        raise ToggleError(f"{options['service']}: {error}") from None
    service = replace(service, pair=declared, clients="".join(found.pem for found in clients))
    try:
        changes = [change for change in files.plan(items(service)) if change.needed]
        found = units([service.unit])[0]
        is_stale = found.is_running and not changes and is_behind(service, found)
        shown_changes = diff(changes, service)
        if (changes or is_stale) and not check_mode:
            toggle(service, changes, found.is_running, options["timeout_seconds"])
    except (files.FilesError, ToggleError, UnitError, OSError) as error:
        raise ToggleError(f"{options['service']}: {error}") from error
    is_taken_up = is_stale or (changes and found.is_running)
    actions = (["files written"] if changes else []) + (["taken up"] if is_taken_up else [])
    return {
        "changed": bool(actions),
        "action": " and ".join(actions),
        "restarts": bool(is_taken_up) and not service.reload_takes_files and not is_of_pair(service, changes),
        "fingerprint": service.fingerprint,
        "speaks_tls": speaks_tls(service, enabled) if check_mode else enabled,
        "diff": shown_changes,
    } | told


def is_of_pair(service: Service, changes: list) -> bool:
    """Return whether only the pair, or the authorities of clients, have changed."""
    return bool(changes) and not any(change.path in service.settings for change in changes)


def toggle(service: Service, changes: list, is_running: bool, timeout_seconds: int) -> None:
    """Write and apply the changes, or leave everything unchanged."""
    before = seen(service) if is_running else None
    # For a pair alone, a reload is always enough; after a killed run, more may have changed.
    is_pair_alone = is_of_pair(service, changes)
    is_reload_enough = service.reload_takes_files or (is_pair_alone and bool(before) == bool(service.pair))
    was_told = False

    def confirm() -> None:
        nonlocal was_told
        check(service)
        if is_running:
            was_told = True
            take_up(service, is_reload_enough, service.fingerprint, timeout_seconds)

    try:
        files.apply(changes, confirm)
    except ToggleError as error:
        if not was_told:
            raise ToggleError(f"{error}; the former files are back") from error
        back = replace(service, listen=[])  # it may have listened elsewhere before
        try:
            take_up(back, service.reload_takes_files, before or "", timeout_seconds)
        except ToggleError as second:
            raise ToggleError(f"{error}; the former files are back, but not taken up either: {second}") from error
        raise ToggleError(f"{error}; the former state is restored") from error


def seen(service: Service) -> str | None:
    """Return the fingerprint that the service presents, or None if it does not answer."""
    try:
        return shown(service)
    except OSError:
        return None


def speaks_tls(service: Service, enabled: bool) -> bool:
    """Return whether it speaks TLS now; a service that does not answer counts as being as declared."""
    fingerprint = seen(service)
    return enabled if fingerprint is None else bool(fingerprint)

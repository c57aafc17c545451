# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service's TLS, switched with a pair that is known to be good, or left as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.mlfleet.stack.plugins.module_utils import files
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates, services
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError, Pair, Pem
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.services import ToggleError
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError, units

ARGUMENT_SPEC = {
    "service": {"type": "str", "choices": list(services.SERVICES), "required": True},
    "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
    "certificate": {"type": "str"},
    "key": {"type": "path", "no_log": False},
    "key_text": {"type": "str", "no_log": True},
    "chain": {"type": "str"},
    "sources_changed": {"type": "bool", "default": False},
    "authorities": {"type": "list", "elements": "str", "default": ["/etc/ssl/certs/ca-certificates.crt"]},
    "names": {"type": "list", "elements": "str", "default": []},
    "minimum_days": {"type": "float", "default": 0},
    "address": {"type": "str", "required": True},
    "listen": {"type": "dict", "default": {}},
    "hsts_max_age_seconds": {"type": "int", "default": 0},
    "ciphers": {"type": "str", "default": "DEFAULT"},
    "client_authorities": {"type": "list", "elements": "str", "default": []},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "unit": {"type": "str"},
    "owner": {"type": "str"},
    "directory": {"type": "path"},
    "timeout_seconds": {"type": "int", "default": 60},
}
CONDITIONS = {
    "required_if": [("state", "enabled", ("certificate",)), ("state", "enabled", ("key", "key_text"), True)],
    "mutually_exclusive": [("key", "key_text")],
    "required_together": [("username", "password")],
}
READABLE_BY_OTHERS = 0o007
UNKNOWABLE = "made and taken up in this run"


def source(value: str, option: str) -> Pem:
    """A text, or what a file on this host holds."""
    return certificates.read(value) if value.startswith("/") else certificates.text_of(value.encode(), option)


def key_of(options: dict) -> Pem:
    """The private key, from a file that others cannot read, or as it was given."""
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
    """The declared pair, checked.

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
    """Whether a check comes before the run that makes the sources, or installs what reads them."""
    sources = [options["certificate"], options["key"] or "", *options["authorities"]]
    files_of_host = [value for value in sources if value.startswith("/")]
    missing = any(not Path(file).exists() for file in files_of_host)
    renewed = options["sources_changed"] and options["certificate"] in files_of_host
    return missing or renewed or certificates.IMPORT_ERROR is not None


def diff(changes: list, service: services.Service, wanted: services.Wanted) -> list:
    """Certificates as what they say, keys not at all, settings as they are."""
    path = wanted.path(service.certificate)
    entries = [entry for entry in files.diff(changes) if entry["before_header"] != path]
    for change in changes:
        if change.path == path:
            after = str(wanted.pair.certificate) if wanted.pair else ""
            texts = {"before": certificates.described(change.before.content or former(path)), "after": after}
            entries.append({"before_header": path, "after_header": path, **texts})
    return entries


def former(path: str) -> bytes:
    return Path(path).read_bytes() if Path(path).is_file() else b""


def switch(options: dict, check_mode: bool) -> dict:
    """Has the service's TLS as it is declared, or tells what that would take; the module's result.

    Raises:
        ToggleError: the pair is no good, or the service does not take it up; everything is as it was.
    """
    service = services.SERVICES[options["service"]]
    enabled = options["state"] == "enabled"
    told = {"service": options["service"]}
    if enabled and check_mode and is_unknowable(options):
        path = str(Path(options["directory"] or service.directory, service.certificate))
        before = "" if certificates.IMPORT_ERROR else certificates.described(former(path))
        texts = {"before": before, "after": f"{UNKNOWABLE}\n"}
        return {
            "changed": True,
            "action": f"the pair would be {UNKNOWABLE}",
            "fingerprint": "",
            "speaks_tls": speaks_tls(service, options),
            "diff": [{"before_header": path, "after_header": path, **texts}],
        } | told
    if enabled and certificates.IMPORT_ERROR:
        raise ToggleError(missing_required_lib("cryptography"))
    try:
        declared = pair(options) if enabled else None
        clients = [certificates.authority(source(text, "client_authorities")) for text in options["client_authorities"]]
    except CertificateError as error:
        raise ToggleError(f"{options['service']}: {error}") from None
    wanted = services.Wanted(
        directory=options["directory"] or service.directory,
        address=options["address"],
        pair=declared,
        client_authorities="".join(found.pem for found in clients),
        listen=options["listen"],
        hsts_max_age_seconds=options["hsts_max_age_seconds"],
        ciphers=options["ciphers"],
        username=options["username"] or "",
        password=options["password"] or "",
        user=options["owner"] or "",
    )
    unit = options["unit"] or service.unit
    try:
        changes = [change for change in files.plan(services.items(service, wanted)) if change.needed]
        found = units([unit])[0]
        is_running = found.is_running
        is_stale = is_running and not changes and services.is_behind(service, wanted, found)
        shown_changes = diff(changes, service, wanted)
        if (changes or is_stale) and not check_mode:
            toggle(service, wanted, unit, changes, is_running, options["timeout_seconds"])
    except (files.FilesError, ToggleError, UnitError, OSError) as error:
        raise ToggleError(f"{options['service']}: {error}") from error
    actions = (["files written"] if changes else []) + (["taken up"] if is_stale or (changes and is_running) else [])
    return {
        "changed": bool(actions),
        "action": " and ".join(actions),
        "fingerprint": wanted.fingerprint,
        "speaks_tls": speaks_tls(service, options) if check_mode else enabled,
        "diff": shown_changes,
    } | told


def toggle(
    service: services.Service, wanted: services.Wanted, unit: str, changes: list, is_running: bool, timeout_seconds: int
) -> None:
    """Write and take up, or leave everything as it was."""
    before = seen(service, wanted.address) if is_running else None
    settings = service.settings(wanted)
    # The pair alone is taken up by a reload everywhere; what a killed run left may be more.
    is_pair_alone = bool(changes) and not any(change.path in settings for change in changes)
    is_reload_enough = service.takes_settings_by_reload or (is_pair_alone and bool(before) == bool(wanted.pair))
    was_told = False

    def confirm() -> None:
        nonlocal was_told
        services.check(service, wanted)
        if is_running:
            was_told = True
            services.take_up(service, wanted, unit, is_reload_enough, wanted.fingerprint, timeout_seconds)

    try:
        files.apply(changes, confirm)
    except ToggleError as error:
        if not was_told:
            raise ToggleError(f"{error}; the former files are back") from error
        back = replace(wanted, listen={})  # where it listened is not what was wanted
        try:
            services.take_up(service, back, unit, service.takes_settings_by_reload, before or "", timeout_seconds)
        except ToggleError as second:
            raise ToggleError(f"{error}; the former files are back, but not taken up either: {second}") from error
        raise ToggleError(f"{error}; the former state is restored") from error


def seen(service: services.Service, address: str) -> str | None:
    """What the service shows, or nothing when it does not answer."""
    try:
        return services.shown(service, address)
    except OSError:
        return None


def speaks_tls(service: services.Service, options: dict) -> bool:
    """Whether it speaks TLS now; what does not answer will do as it is declared."""
    fingerprint = seen(service, options["address"])
    return options["state"] == "enabled" if fingerprint is None else bool(fingerprint)

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssl_toggle
short_description: Have a service use TLS with a pair that is known to be good, or no TLS
description:
  - Checks certificate, key and chain before anything is touched. Then writes them for the service, with the part of its
    configuration that switches TLS, has the service's own program judge the whole, reloads the service, and compares
    the certificate that it shows with the one that it was given.
  - When that fails, the former files are put back and taken up again, and the error says why.
  - A service that does not run is only given its files. One that shows another certificate than its files hold, such as
    after a run that was killed, is told again.
  - The service's configuration has to include what this module writes into O(directory). For V(nginx) each C(server)
    has C(include .../NAME.conf*) instead of C(listen), for V(redis) there is C(include .../tls.conf*) instead of
    C(port). V(postgres) reads it from C(conf.d) on its own, and V(minio) is started with C(--certs-dir).
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
requirements:
  - cryptography (Python library, 38 or newer; Debian's python3-cryptography)
options:
  service:
    description: The service.
    type: str
    choices: [nginx, postgres, redis, minio]
    required: true
  state:
    description: Whether it uses TLS.
    type: str
    choices: [enabled, disabled]
    default: enabled
  certificate:
    description:
      - The certificate, one in PEM form, as a path on the host or as text.
      - Needed with O(state=enabled).
    type: str
  key:
    description: The private key, as a path on the host. The file must not be readable by others.
    type: path
  key_text:
    description: The private key as text, in place of O(key).
    type: str
  chain:
    description: Certificates of the authorities between O(certificate) and one of O(authorities), as O(certificate).
    type: str
  sources_changed:
    description: Whether this run changes the files at O(certificate) and O(key), which in check mode cannot be seen.
    type: bool
    default: false
  authorities:
    description: Whom the service's clients trust, as paths on the host or as texts.
    type: list
    elements: str
    default: [/etc/ssl/certs/ca-certificates.crt]
  names:
    description: Names and addresses that O(certificate) has to be valid for.
    type: list
    elements: str
    default: []
  minimum_days:
    description: For how many days from now the certificates have to be valid.
    type: float
    default: 0
  address:
    description: Address and port at which the service is asked what it shows; V(redis) and V(nginx) listen there.
    type: str
    required: true
  listen:
    description: For V(nginx), the address and port of each C(server), by its name.
    type: dict
    default: {}
  hsts_max_age_seconds:
    description: For V(nginx), how long browsers are told to use HTTPS only; V(0) tells them nothing.
    type: int
    default: 0
  ciphers:
    description: Cipher suites of TLS 1.2, in OpenSSL's notation; by default what OpenSSL takes. MinIO has its own.
    type: str
    default: DEFAULT
  client_authorities:
    description:
      - For V(redis) and V(postgres), the authorities of whose certificates a client has to show one, as texts.
      - PostgreSQL asks only where C(pg_hba.conf) says so.
    type: list
    elements: str
    default: []
  username:
    description:
      - For V(redis), a user that may C(CONFIG SET), so that a new pair is taken up without a restart.
    type: str
  password:
    description: Its password.
    type: str
  unit:
    description: The service's systemd unit; by default C(nginx), C(postgresql), C(redis-server) or C(minio).
    type: str
  directory:
    description:
      - Where the pair is written; nothing else stays in it.
      - By default C(/etc/nginx/mlfleet-tls), C(/etc/postgresql/15/main/tls), C(/etc/redis/tls) or
        C(/etc/mlfleet/minio/certs). For V(postgres) its parent holds C(conf.d).
    type: path
  owner:
    description: User that reads the files; by default who does in Debian's package, V(root) for V(nginx).
    type: str
  timeout_seconds:
    description: How long the service may take to show the certificate after a restart.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: >-
      Checks the pair and predicts; a source that is not there yet, or a library that this run installs, counts as a
      change.
  diff_mode:
    support: full
    description: Shows subject, names, validity and fingerprint of both certificates, and the settings; never the key.
seealso:
  - module: mlfleet.stack.host_certificate
  - module: mlfleet.stack.ca_bundle
"""

EXAMPLES = r"""
- name: Have Redis speak TLS
  mlfleet.stack.ssl_toggle:
    service: redis
    certificate: /etc/mlfleet/tls/host.crt
    key: /etc/mlfleet/tls/host.key
    names: [redis.example.org]
    address: 127.0.0.1:6379

- name: Have nginx speak TLS with a pair from the inventory
  mlfleet.stack.ssl_toggle:
    service: nginx
    certificate: "{{ lookup('ansible.builtin.file', 'files/www.crt') }}"
    key_text: "{{ www_key }}"
    address: 127.0.0.1:443
    listen: {www: "0.0.0.0:443"}
    hsts_max_age_seconds: 31536000
"""

RETURN = r"""
fingerprint:
  description: SHA-256 fingerprint of the certificate that the service shows; empty without TLS.
  returned: success
  type: str
service:
  description: The service.
  returned: success
  type: str
speaks_tls:
  description: Whether the service speaks TLS after this; in check mode, whether it does so now.
  returned: success
  type: bool
action:
  description: What was done with the running service, or would be in check mode.
  returned: success
  type: str
  sample: files written and taken up
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlfleet.stack.plugins.module_utils import certificates, files, tls
from ansible_collections.mlfleet.stack.plugins.module_utils.certificates import CertificateError, Pair, Pem
from ansible_collections.mlfleet.stack.plugins.module_utils.systemd import UnitError, units

READABLE_BY_OTHERS = 0o007


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


def diff(changes: list, service: tls.Service, wanted: tls.Wanted) -> list:
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


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "choices": list(tls.SERVICES), "required": True},
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
        },
        required_if=[("state", "enabled", ("certificate",)), ("state", "enabled", ("key", "key_text"), True)],
        mutually_exclusive=[("key", "key_text")],
        required_together=[("username", "password")],
        supports_check_mode=True,
    )
    options = module.params
    service = tls.SERVICES[options["service"]]
    enabled = options["state"] == "enabled"
    if enabled and module.check_mode and is_unknowable(options):
        action = "the pair would be made and taken up"
        told = {"service": options["service"], "speaks_tls": speaks_tls(service, options)}
        module.exit_json(changed=True, action=action, fingerprint="", **told)
    if enabled and certificates.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=certificates.IMPORT_ERROR)
    try:
        declared = pair(options) if enabled else None
        clients = [certificates.authority(source(text, "client_authorities")) for text in options["client_authorities"]]
    except CertificateError as error:
        module.fail_json(msg=f"{options['service']}: {error}")
    wanted = tls.Wanted(
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
        changes = [change for change in files.plan(tls.items(service, wanted)) if change.needed]
        found = units([unit])[0]
        is_running = found.is_running
        is_stale = is_running and not changes and tls.is_behind(service, wanted, found)
        shown_changes = diff(changes, service, wanted)
        if (changes or is_stale) and not module.check_mode:
            toggle(service, wanted, unit, changes, is_running, options["timeout_seconds"])
    except (files.FilesError, tls.ToggleError, UnitError, OSError) as error:
        module.fail_json(msg=f"{options['service']}: {error}")
    actions = (["files written"] if changes else []) + (["taken up"] if is_stale or (changes and is_running) else [])
    module.exit_json(
        changed=bool(actions),
        service=options["service"],
        action=" and ".join(actions),
        fingerprint=wanted.fingerprint,
        speaks_tls=speaks_tls(service, options) if module.check_mode else enabled,
        diff=shown_changes,
    )


def toggle(
    service: tls.Service, wanted: tls.Wanted, unit: str, changes: list, is_running: bool, timeout_seconds: int
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
        tls.check(service, wanted)
        if is_running:
            was_told = True
            tls.take_up(service, wanted, unit, is_reload_enough, wanted.fingerprint, timeout_seconds)

    try:
        files.apply(changes, confirm)
    except tls.ToggleError as error:
        if not was_told:
            raise tls.ToggleError(f"{error}; the former files are back") from error
        try:
            tls.take_up(service, wanted, unit, service.takes_settings_by_reload, before or "", timeout_seconds)
        except tls.ToggleError as second:
            raise tls.ToggleError(f"{error}; the former files are back, but not taken up either: {second}") from error
        raise tls.ToggleError(f"{error}; the former state is restored") from error


def seen(service: tls.Service, address: str) -> str | None:
    """What the service shows, or nothing when it does not answer."""
    try:
        return tls.shown(service, address)
    except OSError:
        return None


def speaks_tls(service: tls.Service, options: dict) -> bool:
    """Whether it speaks TLS now; what does not answer will do as it is declared."""
    fingerprint = seen(service, options["address"])
    return options["state"] == "enabled" if fingerprint is None else bool(fingerprint)


if __name__ == "__main__":
    main()

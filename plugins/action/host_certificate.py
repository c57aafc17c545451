# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of host_certificate: decide, issue and install."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.mlfleet.stack.plugins.module_utils.files import Item, pack
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Certificate, CertificateError, Pem
from ansible_collections.mlfleet.stack.plugins.plugin_utils import authority
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "mode": {"type": "str", "choices": ["internal", "provided"], "required": True},
    "directory": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "authority": {"type": "str"},
    "valid_days": {"type": "int", "default": 365},
    "renew_days": {"type": "int", "default": 30},
    "certificate": {"type": "str"},
    "key": {"type": "str", "no_log": True},
    "chain": {"type": "str", "default": ""},
    "group": {"type": "str", "default": "ssl-cert"},
}
REQUIRED_IF = [("mode", "internal", ("authority",)), ("mode", "provided", ("certificate", "key"))]


class ActionModule(LibraryActionBase):
    """Ask the host once, and contact it again only if there is something to install."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(ARGUMENT_SPEC, required_if=REQUIRED_IF)
        try:
            if options["mode"] == "internal":
                result.update(self._internal(options, task_vars or {}))
            else:
                result.update(self._install(self._given(options), task_vars or {}) | {"reason": ""})
        except CertificateError as error:
            raise AnsibleActionFail(str(error)) from None
        return self._tell(result, task_vars, _path(options, "host.crt"), _path(options, "host.key"))

    def _internal(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        issuer_pem = self._read(options["authority"], authority.CERTIFICATE)
        issuer = certificates.authority(issuer_pem)
        path = _path(options, "host.crt")
        question = {"certificate": path, "key": _path(options, "host.key"), "group": options["group"]}
        answer = self._execute_module("mlfleet.stack.read_certificate", question, task_vars=task_vars)
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        found = certificates.certificates(Pem(path, answer["certificate"]))[0] if answer["certificate"] else None
        reason = authority.why_renew(found, issuer, options["names"], options["renew_days"])
        outcome: dict[str, Any] = {"changed": bool(reason), "reason": reason}
        if not reason:
            return outcome
        if not self._task.check_mode:
            key = self._read(options["authority"], authority.KEY)
            pair = authority.issue(issuer_pem, key, options["names"], options["valid_days"])
            outcome = self._install(_items(options, *pair), task_vars) | {"reason": reason}
        return outcome | {"diff": [_diff(path, found, issuer, options)]}

    @staticmethod
    def _given(options: dict[str, Any]) -> list[Item]:
        leaf = certificates.certificate(Pem("certificate", options["certificate"]))
        if certificates.public_key(Pem("key", options["key"])) != leaf.public_key:
            raise CertificateError("key: is not the key of certificate")
        chain = certificates.certificates(Pem("chain", options["chain"])) if options["chain"] else []
        return _items(options, "".join(link.pem for link in (leaf, *chain)), options["key"])

    def _install(self, items: list[Item], task_vars: dict[str, Any]) -> dict[str, Any]:
        return self._execute_module("mlfleet.stack.install_files", {"payload": pack(items)}, task_vars=task_vars)

    def _read(self, directory: str, name: str) -> Pem:
        path = str(PurePosixPath(directory, name))
        try:
            return certificates.text_of(self._loader.get_text_file_contents(path).encode(), path)
        except AnsibleError as error:
            raise CertificateError(f"{path}: {' '.join(str(error).split())}") from error


def _path(options: dict[str, Any], name: str) -> str:
    return str(PurePosixPath(options["directory"], name))


def _items(options: dict[str, Any], certificate: str, key: str) -> list[Item]:
    return [
        Item(options["directory"], "directory", mode="0755"),
        Item(_path(options, "host.crt"), content=certificate),
        Item(_path(options, "host.key"), content=key, group=options["group"], mode="0640", sensitive=True),
    ]


def _diff(path: str, found: Certificate | None, issuer: Certificate, options: dict[str, Any]) -> dict[str, str]:
    wanted = [f"issuer: {issuer.subject}", f"names: {', '.join(options['names'])}"]
    wanted += [f"valid: {options['valid_days']} days", "fingerprint: (a new one)", ""]
    before = str(found) if found else ""
    return {"before_header": path, "after_header": path, "before": before, "after": "\n".join(wanted)}

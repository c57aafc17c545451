# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small client for JSON APIs: basic sign-in or cookies, and errors in one line."""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Callable, Mapping
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import Request
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import (
    NotRunningError,
    Result,
    ServiceError,
    exit_with,
)

CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "required": True},
    "ca_file": {"type": "path"},
    "timeout_seconds": {"type": "int", "default": 30},
}
CERTIFICATE_OPTION: dict[str, dict[str, Any]] = {"certificate_file": {"type": "path"}}
SIGN_IN_OPTIONS: dict[str, dict[str, Any]] = {
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
}

GATEWAY_ERRORS = (502, 503, 504)  # a proxy's answers for a service that is not running


class Answer(NamedTuple):
    status: int
    data: Any  # decoded JSON, or text if it is none

    @property
    def reason(self) -> str:
        """The service's error message."""
        text = self.data.get("message") or self.data.get("error_code") if isinstance(self.data, dict) else self.data
        return " ".join(str(text).split())[:500]


class Form(NamedTuple):
    """Fields and one file, sent like a form of a web page."""

    fields: dict[str, str]
    file: tuple[str, str, bytes]  # name of its field, file name, content

    def encoded(self) -> tuple[str, bytes]:
        """Return the content type and the bytes."""
        boundary = uuid.uuid4().hex
        name, filename, content = self.file
        parts = [(f'name="{field}"', value.encode()) for field, value in self.fields.items()]
        parts.append((f'name="{name}"; filename="{filename}"', content))
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {what}\r\n\r\n".encode() + value + b"\r\n"
            for what, value in parts
        )
        return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


class CertificateContext(ssl.SSLContext):
    """Expects one certificate, whatever its names, signed by an authority that is trusted."""

    file = ""

    def wrap_socket(self, *words: Any, **options: Any) -> ssl.SSLSocket:
        try:
            expected = Path(self.file).read_text().partition("-----END CERTIFICATE-----")
        except FileNotFoundError:
            raise ConnectionRefusedError(f"there is no {self.file} yet") from None
        wrapped = super().wrap_socket(*words, **options)
        if wrapped.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert("".join(expected[:2])):
            wrapped.close()
            raise ssl.SSLCertVerificationError(f"the certificate is not that of {self.file}")
        return wrapped


def certificate_context(file: str, ca_file: str | None) -> CertificateContext:
    context = CertificateContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.file = file
    context.load_verify_locations(ca_file) if ca_file else context.load_default_certs()
    return context


class Http:
    """A service at a URL; its cookies are sent back."""

    def __init__(
        self,
        url: str,
        timeout_seconds: int = 30,
        ca_file: str | None = None,
        username: str | None = None,
        password: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        certificate_file: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ServiceError(f"url {url!r}: it must begin with http:// or https:// and a host")
        self.url = url.rstrip("/")
        self._request = Request(
            headers={"Accept": "application/json", **headers},
            use_proxy=False,  # the services of a deployment are not behind one
            use_netrc=False,
            follow_redirects="none",  # the password would be sent along
            timeout=timeout_seconds,
            ca_path=ca_file,
            context=certificate_context(certificate_file, ca_file)
            if certificate_file and parts.scheme == "https"
            else None,
            cookies=CookieJar(),
            url_username=username,
            url_password=password,
            force_basic_auth=username is not None,
        )

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        """Return the service's answer with any status; a body that is not a Form is sent as JSON."""
        url = f"{self.url}{path}{'?' + urlencode(query) if query else ''}"
        data, headers = None, {}
        if isinstance(body, Form):
            headers["Content-Type"], data = body.encoded()
        elif body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        try:
            try:
                response = self._request.open(method, url, data=data, headers=headers)
            except HTTPError as error:
                response = error
            with response:
                status, text = response.status, response.read().decode(errors="replace")
        except OSError as error:
            reason = error.reason if isinstance(error, URLError) else error
            # If a service speaks plain HTTP, its TLS has not been switched on yet.
            is_trusted = not isinstance(reason, ssl.SSLError) or getattr(reason, "reason", "") == "WRONG_VERSION_NUMBER"
            kind = NotRunningError if is_trusted else ServiceError
            raise kind(f"{self.url} does not answer: {reason}") from error
        except HTTPException as error:
            raise ServiceError(f"{self.url} answers what is no HTTP: {error!r}") from error
        if 300 <= status < 400:
            raise ServiceError(f"{self.url}: {method} {path} leads elsewhere, to {response.headers['Location']}")
        if status in GATEWAY_ERRORS:
            raise NotRunningError(f"{self.url} does not answer: its proxy says {status}")
        try:
            return Answer(status, json.loads(text))
        except ValueError:
            return Answer(status, text)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Return the data of a successful answer; raise ServiceError for any other."""
        answer = self.ask(method, path, body, **query)
        if answer.status >= 400:
            raise ServiceError(f"{self.url}: {method} {path} answered {answer.status}: {answer.reason}")
        return answer.data


def signed_in(options: Mapping[str, Any]) -> Http:
    """Return the service of a module's options of connection, certificate and account."""
    names = ("url", "timeout_seconds", "ca_file", "username", "password", "certificate_file")
    return Http(**{name: options[name] for name in names})


def run_module(options: dict[str, Any], work: Callable[[dict[str, Any], bool], Result]) -> None:
    """Run a module for such an API, with its own options and a function C(work(params, check_mode))."""
    exit_with(AnsibleModule(argument_spec=CONNECTION_OPTIONS | options, supports_check_mode=True), work)

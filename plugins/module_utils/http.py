# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small client for JSON APIs: basic auth or cookies, time-outs, errors in one line."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode


class HttpError(Exception):
    """The service could not be asked; the text says which and why."""


class Client:
    """JSON requests to one service, which keep its cookies."""

    def __init__(self, url: str, timeout_seconds: int = 30, ca_file: str | None = None) -> None:
        self.url, self.timeout_seconds = url.rstrip("/"), timeout_seconds
        self.headers = {"Accept": "application/json"}
        context = ssl.create_default_context(cafile=ca_file)
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(CookieJar()), urllib.request.HTTPSHandler(context=context)
        )

    def sign_in_with(self, username: str, password: str) -> Client:
        """Sends these credentials with each request, as HTTP basic authentication."""
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        self.headers["Authorization"] = f"Basic {pair}"
        return self

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """The status and the decoded answer, of errors too; HttpError when there is none."""
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers | ({"Content-Type": "application/json"} if data else {})
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with self.opener.open(request, timeout=self.timeout_seconds) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read())
        except (urllib.error.URLError, OSError) as error:
            raise HttpError(f"{self.url} cannot be reached: {getattr(error, 'reason', error)}") from None


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")

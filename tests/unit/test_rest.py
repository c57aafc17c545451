# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Http, signed_in

from tests.certificates import make


class Echo(BaseHTTPRequestHandler):
    """Answers with the request itself, and with the status in its path."""

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        told = {
            "path": self.path,
            "authorization": self.headers.get("Authorization"),
            "cookie": self.headers.get("Cookie"),
            "body": self.rfile.read(length).decode(),
            "message": "as\n  asked",
        }
        self.send_response(int(self.path.split("/")[1][:3]))
        self.send_header("Set-Cookie", "session=abc")
        if self.path.startswith("/3"):
            self.send_header("Location", "/200/elsewhere")
        self.end_headers()
        self.wfile.write(b"<html>" if "html" in self.path else json.dumps(told).encode())

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_args):
        pass


@contextmanager
def serve(context=None):
    server = HTTPServer(("127.0.0.1", 0), Echo)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def url():
    with serve() as port:
        yield f"http://127.0.0.1:{port}"


def test_body_and_query_are_sent(url):
    told = Http(url).call("POST", "/200/x", {"a": 1}, search='name:"b c"')
    assert told["path"] == "/200/x?search=name%3A%22b+c%22"
    assert json.loads(told["body"]) == {"a": 1}
    assert told["authorization"] is None


def test_account_is_sent_at_once(url):
    told = Http(url, username="me", password="pass:word").call("GET", "/200")
    assert told["authorization"] == "Basic " + base64.b64encode(b"me:pass:word").decode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_account_is_not_sent_to_where_an_answer_leads(url, status):
    with pytest.raises(ServiceError, match=rf"^{url}: GET /{status} leads elsewhere, to /200/elsewhere$"):
        Http(url, username="ada", password="secret").ask("GET", f"/{status}")


def test_cookies_are_kept(url):
    client = Http(url)
    assert client.call("GET", "/200")["cookie"] is None
    assert client.call("GET", "/200")["cookie"] == "session=abc"


def test_error_is_one_line_with_the_reason(url):
    answer = Http(url).ask("GET", "/409")
    assert (answer.status, answer.reason) == (409, "as asked")
    with pytest.raises(ServiceError, match="POST /409 answered 409: as asked"):
        Http(url).call("POST", "/409", {})


def test_text_that_is_no_json_is_kept(url):
    assert Http(url).ask("GET", "/403html").data == "<html>"


def test_what_does_not_answer_does_not_run(url):
    with pytest.raises(NotRunningError, match="its proxy says 502"):
        Http(url).ask("GET", "/502")
    with pytest.raises(NotRunningError, match=r"does not answer: .*refused"):
        Http("http://127.0.0.1:1").ask("GET", "/")


def test_plain_answer_to_tls_is_of_a_service_that_is_not_switched_yet(url):
    with pytest.raises(NotRunningError, match="WRONG_VERSION_NUMBER"):
        Http(url.replace("http:", "https:"), 5).ask("GET", "/200")


def test_certificate_that_is_expected_may_have_other_names(tmp_path):
    """A service on the loopback interface, whose certificate was issued for its name."""
    root = make("company", is_authority=True)
    leaf, former = make("mq.example.org", root), make("mq.example.org", root)
    (tmp_path / "ca.crt").write_text(root.certificate)
    (tmp_path / "leaf.pem").write_text(leaf.certificate + leaf.private)
    (tmp_path / "chain.pem").write_text(leaf.certificate + root.certificate)
    (tmp_path / "former.pem").write_text(former.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    with serve(context) as port:
        url, account = f"https://127.0.0.1:{port}", {"username": "ada", "password": "secret", "timeout_seconds": 5}
        trusted = account | {"url": url, "ca_file": str(tmp_path / "ca.crt")}
        expected = {"certificate_file": str(tmp_path / "chain.pem")}
        assert signed_in(trusted | expected).call("GET", "/200")["path"] == "/200"
        for file, says in (None, "CERTIFICATE_VERIFY_FAILED"), (tmp_path / "former.pem", "is not that of"):
            with pytest.raises(ServiceError, match=says):
                signed_in(trusted | {"certificate_file": file and str(file)}).ask("GET", "/200")
        with pytest.raises(NotRunningError, match="there is no"):
            signed_in(trusted | {"certificate_file": str(tmp_path / "none.pem")}).ask("GET", "/200")
        with pytest.raises(ServiceError, match="CERTIFICATE_VERIFY_FAILED"):  # by an authority that is not trusted
            signed_in(trusted | expected | {"ca_file": None}).ask("GET", "/200")


@pytest.mark.parametrize("wrong", ["127.0.0.1:5000", "ftp://host", "http://"])
def test_url_is_one(wrong):
    with pytest.raises(ServiceError, match="must begin with http"):
        Http(wrong)

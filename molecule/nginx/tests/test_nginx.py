"""nginx passes on each declared route, requires a sign-in if declared, and is open nowhere else."""

import http.client
import socket
import ssl
import time
from contextlib import suppress

import pytest
import requests

PORT = 8080
NAME = "named.lab.example"
BACKEND = 8081
BURST, PER_SECOND = 30, 0.5  # nginx_sign_in_burst, nginx_sign_in_rate_per_minute
PAGES = "/run/molecule-backend"
# Serves files, and at /told/ the headers that it received.
SERVE = """
import http.server, pathlib, sys

class Server(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/told/":
            pathlib.Path("heard").write_text(str(self.headers))
            self.path = "/"
        super().do_GET()

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
"""
SIGN_OF_DEPLOYMENT = "test -e /etc/nginx/mlfleet-tls/example.conf"


@pytest.fixture(autouse=True, scope="module")
def _backend(host):
    """A program as the target of the routes."""
    host.check_output("mkdir --parents %s && echo 'I am the backend' > %s/index.html", PAGES, PAGES)
    host.check_output("printf %s > %s/serve.py", SERVE, PAGES)
    run = f"systemd-run --collect --unit=molecule-backend --working-directory={PAGES}"
    host.check_output(f"{run} python3 serve.py {BACKEND}")
    host.run("for i in $(seq 50); do ss -Hltn sport = :%s | grep -q . && break; sleep 0.1; done", str(BACKEND))
    yield
    host.check_output("systemctl stop molecule-backend")


@pytest.fixture
def ask(forward, authority):
    """Send a request like a browser that trusts the deployment's authority, without following redirects."""

    def request(path, method="GET", scheme="https", **options):
        url = f"{scheme}://127.0.0.1:{forward(PORT)}{path}"
        return requests.request(method, url, allow_redirects=False, verify=authority, **options)

    return request


@pytest.fixture
def is_named(host):
    """Whether sites have names: nginx in a container may not open their port."""
    return host.ansible.get_variables().get("topology_runtime", "bare") == "bare"


@pytest.fixture
def ask_by_name(forward, authority, is_named):
    """Send a request to the port of names, which verifies the name in the certificate."""
    if not is_named:
        pytest.skip("a container may not open port 443")

    def request(name, path="/", method="GET", sent_host=None, context=None):
        context = context or ssl.create_default_context(cafile=authority)
        connection = http.client.HTTPSConnection(name)
        with socket.create_connection(("127.0.0.1", forward(443))) as door:
            connection.sock = context.wrap_socket(door, server_hostname=name) if name else context.wrap_socket(door)
            connection.request(method, path, headers={"Host": sent_host or name})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")

    return request


def unverified():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_route_leads_to_its_upstream(ask):
    answer = ask("/open/")
    assert answer.status_code == 200
    assert answer.text == "I am the backend\n"


def test_root_redirects(ask):
    answer = ask("/")
    assert answer.status_code == 302
    assert answer.headers["Location"].endswith("/open/")


def test_page_of_links_shows_what_is_deployed_and_no_secret(host, forward, authority, secret):
    url = f"https://127.0.0.1:{forward(30443)}"
    page = requests.get(f"{url}/links/", verify=authority)
    assert page.headers["Content-Type"] == "text/html"
    assert "MLflow" in page.text and "pgAdmin" not in page.text
    assert secret("mlflow_admin") not in page.text
    # A stopped service gives no answer.
    assert requests.get(f"{url}/links/health/mlflow", verify=authority).status_code == 502


def test_undeclared_path_is_not_found(ask):
    assert ask("/other").status_code == 404


def test_sign_in_is_asked_for(ask):
    answer = ask("/closed/")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="example"'


def test_wrong_password_is_refused(ask):
    assert ask("/closed/", auth=("alice", "wrong")).status_code == 401


def test_declared_user_signs_in(ask, secret):
    assert ask("/closed/", auth=("alice", secret("minio_root"))).status_code == 200


def test_larger_body_than_declared_is_refused(ask):
    assert ask("/open/", "POST", data=b"x" * 2**20).status_code != 413
    assert ask("/open/", "POST", data=b"x" * (2**20 + 1)).status_code == 413


def test_plain_request_stays_on_the_port_that_it_came_by(ask):
    answer = ask("/open/?a=b", scheme="http", headers={"Host": "localhost:4321"})
    assert answer.status_code == 308
    assert answer.headers["Location"] == "https://localhost:4321/open/?a=b"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["elsewhere.example.org", f"127.0.0.2:{PORT}", "testbed.elsewhere"])
def test_name_that_is_not_served_gets_no_answer(ask, scheme, name):
    with pytest.raises(requests.exceptions.ConnectionError):
        ask("/open/", scheme=scheme, headers={"Host": name})


def test_each_site_answers_by_its_name(ask_by_name):
    assert ask_by_name(NAME, "/open/") == (200, "I am the backend\n")
    status, page = ask_by_name("dioptra.lab.example", "/links/")
    assert status == 200 and "https://mlflow.lab.example/" in page
    assert ask_by_name("mlflow.lab.example", "/other")[0] == 502  # nothing runs behind it


def test_what_holds_for_a_site_holds_by_its_name(ask_by_name):
    assert ask_by_name(NAME, "/closed/")[0] == 401
    assert ask_by_name(NAME, "/fixed/", "POST")[0] == 403
    assert ask_by_name(NAME, "/fixed/")[0] == 200


@pytest.mark.parametrize("name", ["other.lab.example", "lab.example", "localhost", ""])
def test_who_asks_for_no_site_by_name_sees_no_certificate(ask_by_name, name):
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        ask_by_name(name, sent_host=NAME, context=unverified())


def test_request_for_another_name_on_the_same_connection_gets_no_answer(ask_by_name):
    with pytest.raises(http.client.RemoteDisconnected):
        ask_by_name(NAME, sent_host="other.lab.example")


def test_names_have_modern_tls_only(ask_by_name):
    context = unverified()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
        ask_by_name(NAME, context=context)


def test_plain_request_by_name_is_sent_to_https_or_nowhere(forward, is_named):
    if not is_named:
        pytest.skip("a container may not open port 443")
    url = f"http://127.0.0.1:{forward(443)}/open/"
    answer = requests.get(url, headers={"Host": NAME}, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{NAME}/open/")
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url, headers={"Host": "other.lab.example"})


def test_service_hears_of_the_client_from_nginx_alone(host, ask):
    names = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Real-IP", "Forwarded")
    told = dict.fromkeys(names, "6.6.6.6")
    assert ask("/told/", headers=told).status_code == 200
    heard = host.check_output("cat %s/heard", PAGES)
    assert "X-Forwarded-For: 127.0.0.1\n" in heard
    assert "X-Forwarded-Host: 127.0.0.1:" in heard
    assert "6.6.6.6" not in heard


def test_browsers_are_told_to_stay(ask):
    for path in ("/open/", "/other"):
        headers = ask(path).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/fixed/", "/FIXED/x", "/open/../fixed/", "/open//fixed/", "/%66ixed/%20"])
def test_guarded_path_is_read_only_on_every_route(ask, path):
    assert ask(path, "POST").status_code == 403
    assert ask(path).status_code in (200, 404)


def test_few_large_bodies_are_kept_at_once(forward):
    """Each request announces a megabyte, and sends nothing of it. nginx may read them in any order."""
    sockets = []
    for _number in range(9):
        door = ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", forward(PORT))))
        door.sendall(b"POST /open/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        door.settimeout(2)
        sockets.append(door)

    def is_refused(door):
        with suppress(TimeoutError):
            return b" 429 " in door.recv(100)

    assert any(map(is_refused, reversed(sockets)))
    for door in sockets:
        door.close()


def test_sign_in_is_limited(ask, is_named, request):
    paths = ["/limited/", "/open/limited/", "/open/../limited/x", "/LIMITED/"] * 12
    begin = time.monotonic()
    answers = [ask(path).status_code for path in paths]
    assert set(answers) == {200, 404, 429}
    assert len(answers) - answers.count(429) <= BURST + 1 + PER_SECOND * (time.monotonic() - begin)
    if is_named:
        by_name = request.getfixturevalue("ask_by_name")
        assert 429 in [by_name(NAME, "/limited/")[0] for _number in range(3)]


def test_pages_stay_when_tls_is_switched_without_names(request, ask, listens_on):
    request.getfixturevalue("without_tls")
    answer = ask("/open/", scheme="http")
    assert answer.status_code == 200
    assert "Strict-Transport-Security" not in answer.headers
    with pytest.raises(requests.exceptions.SSLError):
        ask("/open/")
    assert listens_on(443) == set()


def test_version_is_not_told(ask):
    assert ask("/other").headers["Server"] == "nginx"


def test_configuration_is_valid(host):
    assert host.run("nginx -t -q").rc == 0


def test_passwords_are_closed_to_others(host):
    assert host.run("runuser -u nobody -- cat /etc/nginx/mlfleet.htpasswd").rc != 0


def test_listens_only_where_told(listens_on, is_named):
    assert listens_on(PORT) == {"127.0.0.1"}
    assert listens_on(443) == ({"127.0.0.1"} if is_named else set())
    assert listens_on(80) == set()

"""nginx passes on each declared route, requires a sign-in if declared, and is open nowhere else."""

import socket
import ssl
import time

import pytest
import requests

PORT = 8080
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
    """Each request announces a megabyte, and sends nothing of it."""
    sockets = []
    for _number in range(9):
        door = ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", forward(PORT))))
        door.sendall(b"POST /open/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        sockets.append(door)
    sockets[-1].settimeout(10)
    assert b" 429 " in sockets[-1].recv(100)
    for door in sockets:
        door.close()


def test_sign_in_is_limited(ask):
    paths = ["/limited/", "/open/limited/", "/open/../limited/x", "/LIMITED/"] * 12
    begin = time.monotonic()
    answers = [ask(path).status_code for path in paths]
    assert set(answers) == {200, 404, 429}
    assert len(answers) - answers.count(429) <= BURST + 1 + PER_SECOND * (time.monotonic() - begin)


def test_pages_stay_when_tls_is_switched(request, ask):
    request.getfixturevalue("without_tls")
    answer = ask("/open/", scheme="http")
    assert answer.status_code == 200
    assert "Strict-Transport-Security" not in answer.headers
    with pytest.raises(requests.exceptions.SSLError):
        ask("/open/")


def test_version_is_not_told(ask):
    assert ask("/other").headers["Server"] == "nginx"


def test_configuration_is_valid(host):
    assert host.run("nginx -t -q").rc == 0


def test_passwords_are_closed_to_others(host):
    assert host.run("runuser -u nobody -- cat /etc/nginx/mlfleet.htpasswd").rc != 0


def test_listens_only_where_told(host, listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}
    sockets = host.check_output("ss -Hltnp").splitlines()
    ports = {line.split()[3].rpartition(":")[2] for line in sockets if "nginx" in line}
    assert {"80", "443"}.isdisjoint(ports)

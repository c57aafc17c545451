"""nginx serves a built application on all its paths, and the hosts have exactly what was declared, completely."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from playwright.sync_api import sync_playwright

HTTPS, HTTP = 30443, 30080
FILES = "/opt/mlfleet/frontend"
DEEP = "/experiments/7"
ROOT = Path(__file__).parents[3]
APPLICATION = Path(__file__).parents[1] / "app"
SIGN_OF_DEPLOYMENT = f"test -e {FILES}/current"


@pytest.fixture
def ask(forward, authority):
    """Send a request like a browser that trusts the deployment's authority, without following redirects."""

    def request(path, scheme="https", **headers):
        url = f"{scheme}://127.0.0.1:{forward(HTTPS if scheme == 'https' else HTTP)}{path}"
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, allow_redirects=False, verify=authority, headers=headers)

    return request


@pytest.fixture
def converge(inventory):
    """Run the role's part of site.yml with other values; return its output and whether it failed."""

    def run(*options, **values):
        words = ["ansible-playbook", "site.yml", "-i", inventory, "--diff", "--tags", "frontend", *options]
        words += ["--extra-vars", json.dumps(values)]
        plain = {**os.environ, "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"}
        done = subprocess.run(words, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def changes(converge):
    """Return how much such a run changes on the host, without the controller's cache."""

    def count(*options, **values):
        code, output = converge(*options, **values)
        assert code == 0, output
        return output.count("changed: [testbed]\n")

    return count


@pytest.fixture
def contents(host):
    """Return the host's files with all their attributes."""
    return lambda: host.check_output(
        "cd %s/current/ && find -type f -printf '%%p %%m %%u ' -exec sha256sum {} \\; | sort", FILES
    )


@pytest.fixture
def application(tmp_path):
    """A copy of the source tree that tests can change."""
    return Path(shutil.copytree(APPLICATION, tmp_path / "app"))


@pytest.fixture
def built(host, tmp_path):
    """The finished build in a directory."""
    directory = tmp_path / "built"
    for line in host.check_output("cd %s/current && find . -type f ! -name '*.gz'", FILES).splitlines():
        file = directory / line
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(host.file(f"{FILES}/current/{line}").content_string)
    return directory


@pytest.fixture
def archive(built, tmp_path):
    """The same as an archive, with the usual directory around it."""
    path = tmp_path / "built.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(built, "dist")
    return path


# --- what people see -------------------------------------------------------------------------------------------------


def test_application_is_at_the_root(ask):
    assert '<div id="app">' in ask("/").text


def test_page_of_the_application_can_be_refreshed(ask):
    assert ask(DEEP).status_code == 200
    assert ask(DEEP).text == ask("/").text


def test_plain_request_is_sent_to_the_same_page(ask):
    answer = ask(DEEP, "http", Host="testbed")
    assert answer.status_code == 308
    assert answer.headers["Location"] == f"https://testbed:{HTTPS}{DEEP}"


def test_person_refreshes_a_page_of_the_application(forward):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(ignore_https_errors=True)
        page.goto(f"https://127.0.0.1:{forward(HTTPS)}/")
        page.get_by_role("link", name="Experiment 7").click()
        page.get_by_role("heading", name="Experiment 7").wait_for()
        page.reload()
        page.get_by_role("heading", name="Experiment 7").wait_for()
        assert page.url.endswith(DEEP)
        browser.close()


def test_browsers_keep_assets_and_ask_for_pages(ask):
    (script,) = re.findall(r'src="(/assets/[^"]+)"', ask("/").text)
    assert ask(script).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for path in ("/", DEEP, "/index.html"):
        assert ask(path).headers["Cache-Control"] == "no-cache"


def test_assets_travel_compressed(ask):
    (script,) = re.findall(r'src="(/assets/[^"]+)"', ask("/").text)
    packed, plain = ask(script, **{"Accept-Encoding": "gzip"}), ask(script, **{"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Content-Type"] == "text/javascript"  # otherwise no browser runs it
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
    assert packed.text == plain.text


def test_missing_asset_is_not_found(ask):
    answer = ask("/assets/index-00000000.js")
    assert answer.status_code == 404
    assert "Cache-Control" not in answer.headers


def test_headers_of_the_site_are_everywhere(ask):
    for path in ("/", DEEP, "/assets/"):
        headers = ask(path).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_services_keep_their_paths(ask):
    # The API does not run here, so only its proxy can answer.
    for path in ("/api/v1/experiments/", "/health", "/swagger.json"):
        assert ask(path).status_code == 502
    assert '<a href="https://' in ask("/links/").text


@pytest.mark.fleet
def test_page_can_be_refreshed_without_tls(request, ask):
    request.getfixturevalue("without_tls")
    answer = ask(DEEP, "http")
    assert answer.status_code == 200
    assert answer.text == ask("/", "http").text


# --- what the host has -----------------------------------------------------------------------------------------------


def test_damage_is_found_file_by_file_and_mended(host, converge, contents):
    before = contents()
    host.check_output(f"cd {FILES}/current && echo more >> index.html && rm assets/*.js.gz && echo > assets/more.js")
    host.check_output(f"cd {FILES}/current && chmod 0666 assets/*.css && chown nobody assets && chmod 700 .")
    _code, predicted = converge("--check")
    for name in (r"\.", "index.html", "assets", "assets/more.js", r"assets/\S+\.js\.gz", r"assets/\S+\.css"):
        assert re.search(rf"^[-+]{name} ", predicted, re.MULTILINE), predicted
    assert predicted.count("changed: [testbed]\n") == 1
    assert converge()[1].count("changed: [testbed]\n") == 1
    assert contents() == before


def test_what_a_killed_run_left_is_found_and_removed(host, changes, contents):
    before = contents()
    host.check_output(f"rm {FILES}/current && mkdir {FILES}/current {FILES}/files-of-a-killed-run && chmod 700 {FILES}")
    assert changes("--check") == 1
    assert changes() == 1
    assert changes() == 0
    assert contents() == before
    assert len(host.file(FILES).listdir()) == 2


def test_files_are_roots_and_open_to_read(host):
    assert host.check_output("find %s/ -type f ! -perm 0644 -o -type d ! -perm 0755 -o ! -user root", FILES) == ""


# --- sources ---------------------------------------------------------------------------------------------------------


def test_changed_source_takes_the_place_of_the_former_at_once(application, ask, changes):
    (application / "index.html").write_text(
        (APPLICATION / "index.html").read_text().replace("of the tests", "of later")
    )
    assert changes("--check", frontend_source=str(application)) == 1
    assert changes(frontend_source=str(application)) == 1
    assert "Application of later" in ask("/").text
    assert not (application / "node_modules").exists()
    assert changes() == 1
    assert "Application of the tests" in ask("/").text


@pytest.mark.fleet
def test_build_is_kept_for_its_inputs(application, converge):
    # If the controller considers it unchanged, npm is not needed, and here it is missing.
    assert converge(frontend_source=str(application), frontend_build_command="npm run build-only")[0] == 0
    assert converge("--check", frontend_source=str(application), frontend_node="missing")[0] == 0


def test_finished_build_is_taken_as_it_is(built, archive, changes):
    assert changes(frontend_source=str(built)) == 0
    assert changes(frontend_source=str(archive)) == 0


def test_archive_is_fetched_and_compared_with_its_checksum(archive, converge):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=archive.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{archive.name}"
        checksum = sha256(archive.read_bytes()).hexdigest()
        good = converge(frontend_source=url, frontend_checksum=checksum)
        bad = converge(frontend_source=url, frontend_checksum="0" * 64)
        gone = converge(frontend_source=f"{url}.gone", frontend_checksum=checksum)
        server.shutdown()
    assert good[0] == 0 and "changed: [testbed]\n" not in good[1], good[1]
    assert bad[0] != 0 and f"{url} has the SHA-256 {checksum}, not 0000" in bad[1], bad[1]
    assert gone[0] != 0 and f"{url}.gone cannot be fetched" in gone[1], gone[1]


@pytest.mark.fleet
def test_repository_is_built_at_its_reference(application, converge):
    repository = application.parent

    def git(*words):
        identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
        subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True)

    (repository / "pyproject.toml").write_text('[project]\nname = "dioptra-platform"\nversion = "1.0.0"\n')
    git("init", "--quiet", "--initial-branch=main")
    git("add", "app", "pyproject.toml")
    git("commit", "--quiet", "--message=first")
    git("tag", "1.0.0")
    source = {"frontend_source": f"git+file://{repository}", "frontend_directory": "app"}
    code, output = converge(**source, frontend_ref="1.0.0")
    assert code == 0 and "changed: [testbed]\n" not in output, output
    assert "the front end is of release 1.0.0 and the REST API of 1." in " ".join(output.split())
    code, output = converge(**source, frontend_ref="2.0.0")
    assert code != 0 and "has no tag or branch '2.0.0'" in output, output


# --- what cannot be built --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"frontend_build_command": "echo 'no such component' >&2; exit 1"}, "failed in .*no such component"),
        ({"frontend_output_directory": "out"}, "created no directory out"),
    ],
)
def test_failed_build_changes_nothing(converge, contents, values, line):
    before = contents()
    code, output = converge(**values)
    assert code != 0
    assert re.search(line, " ".join(output.split())), output
    assert "changed: [testbed]" not in output
    assert contents() == before

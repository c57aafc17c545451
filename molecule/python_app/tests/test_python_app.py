"""A virtual environment contains exactly its pins, even after manual changes."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

VENV = "/opt/mlfleet/tools"
SIGN_OF_DEPLOYMENT = f"test -e {VENV}/.installed"
PINS = Path(__file__).parents[3] / "constraints/tools.txt"
UV = "/opt/mlfleet/uv/bin/uv pip"


@pytest.fixture
def play(play):
    return partial(play, "--tags", "python_app")


@pytest.fixture
def installed(host):
    """Return the installed packages with their versions, read again at each call."""

    def packages():
        found = json.loads(host.check_output(f"{UV} list --format=json --python={VENV}/bin/python"))
        return {package["name"]: package["version"] for package in found}

    return packages


@pytest.fixture
def pins():
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", PINS.read_text(), re.MULTILINE))


def test_packages_are_exactly_the_pins(installed, pins):
    assert installed() == pins


def test_application_is_importable_and_compiled(host):
    path = host.check_output(f"{VENV}/bin/python -B -c 'import minio; print(minio.__cached__)'")
    assert host.file(path).exists


def test_package_installed_by_hand_is_removed(host, installed, pins, play):
    host.check_output(f"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt {UV} install --python={VENV}/bin/python six")
    assert "six" in installed()
    assert play()["changed"] == 1
    assert installed() == pins


def test_package_removed_by_hand_is_installed(host, installed, pins, play):
    host.check_output(f"{UV} uninstall --python={VENV}/bin/python minio")
    assert play()["changed"] == 1
    assert installed() == pins


def test_index_is_asked_for_what_is_missing_alone(host, play):
    no_way = {"HTTPS_PROXY": "http://127.0.0.1:1"}
    assert play("-e", json.dumps({"python_app_environment": no_way}))["changed"] == 0
    host.check_output(f"{UV} uninstall --python={VENV}/bin/python minio")
    with pytest.raises(AssertionError, match="Failed to fetch"):
        play("-e", json.dumps({"python_app_environment": no_way}))
    assert play()["changed"] == 1


def test_change_that_fails_leaves_the_former_one_in_use(host, installed, pins, play):
    former = host.check_output(f"readlink {VENV}")
    host.check_output(f"{UV} uninstall --python={VENV}/bin/python minio")
    trial = {"program": "import minio; raise SystemExit('the new environment will not do')"}
    with pytest.raises(AssertionError, match="the new environment will not do; the former one stays in use"):
        play("-e", json.dumps({"__python_app_trial": trial}))
    assert host.check_output(f"readlink {VENV}") == former
    assert host.check_output(f"ls -d {VENV}*") == f"{VENV}\n{VENV.rpartition('/')[0]}/{former}"
    assert play()["changed"] == 1
    assert host.check_output(f"readlink {VENV}") != former
    assert installed() == pins


def test_it_is_made_with_the_interpreter_that_is_named(host, installed, pins, play):
    own = "/opt/python/bin/python3"
    host.check_output(f"install -D $(readlink -f /usr/bin/python3) {own}")
    named = ("-e", json.dumps({"python_app_python": own}))
    assert play(*named)["changed"] == 1
    assert host.check_output(f"readlink -f {VENV}/bin/python") == own
    assert play(*named)["changed"] == 0
    assert installed() == pins
    assert play()["changed"] == 1
    assert host.check_output(f"readlink -f {VENV}/bin/python") == host.check_output("readlink -f /usr/bin/python3")


def test_others_cannot_change_it(host):
    # uv's own lock file is intentionally writable for all, and empty.
    assert host.check_output(rf"find {VENV}/ ! -type l ! -name .lock \( -perm /022 -o ! -user root \)") == ""

"""A program runs as its own user, confined, with secrets that others do not see, and restarts when its files change."""

from functools import partial

import pytest
import requests

UNIT = "hello.service"
SIGN_OF_DEPLOYMENT = f"systemctl cat {UNIT}"


@pytest.fixture
def play(play):
    return partial(play, "--tags", "unit")


@pytest.fixture
def process(host):
    """Return the present id of the main process."""
    return lambda: host.check_output("systemctl show --property=MainPID --value %s", UNIT)


def test_program_answers(forward):
    answer = requests.get(f"http://127.0.0.1:{forward(8000)}/")
    assert (answer.status_code, answer.text) == (200, "Hello\n")


def test_program_runs_as_its_user_and_comes_back_with_the_host(host, process):
    assert host.check_output("ps -o user= -p %s", process()) == "hello"
    assert host.service(UNIT).is_enabled


def test_program_may_write_to_its_home_only(host, process):
    inside = "nsenter --target=%s --mount --setuid=$(id -u hello) --setgid=$(id -g hello)"
    assert host.run(f"{inside} touch /var/lib/mlfleet/hello/file", process()).rc == 0
    assert "Read-only file system" in host.run(f"{inside.partition(' --setuid')[0]} touch /etc/file", process()).stderr


def test_environment_reaches_the_program_unchanged(host, process, secret):
    environment = host.check_output("cat /proc/%s/environ", process()).split("\0")
    assert r'HELLO_TEXT=a "quoted" $text with \ and spaces' in environment
    assert f"HELLO_SECRET={secret('minio_root')}" in environment


def test_secret_is_closed_to_others(host, process, secret):
    assert secret("minio_root") not in host.check_output("systemctl show %s", UNIT)
    assert host.run("runuser -u nobody -- cat /etc/mlfleet/hello.secret.env").rc != 0
    assert host.run("runuser -u nobody -- cat /proc/%s/environ", process()).rc != 0


def test_program_comes_back_after_a_crash(host, process, eventually):
    before = process()
    host.check_output("kill -KILL %s", before)
    assert eventually(lambda: process() not in ("0", before))


def test_unit_restarts_when_a_file_changed_by_hand(host, process, play):
    host.check_output("systemctl restart %s", UNIT)
    before = process()
    host.check_output("echo 'by hand' > /etc/mlfleet/hello/index.html")
    assert play()["changed"] == 1  # the task has the file and the unit
    assert process() != before
    assert host.file("/etc/mlfleet/hello/index.html").content_string == "Hello\n"


def test_unit_restarts_when_a_killed_run_left_its_files_newer(host, process, play):
    before = process()
    host.check_output("touch /etc/mlfleet/hello.env")
    assert play()["changed"] == 1
    assert process() != before

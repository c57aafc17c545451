"""Every host can create virtual environments, trusts certificates, and has the directories that roles share."""

import pytest

DIRECTORIES = ["/etc/mlfleet", "/opt/mlfleet", "/var/lib/mlfleet", "/var/cache/mlfleet"]


@pytest.mark.parametrize("path", DIRECTORIES)
def test_shared_directory_is_for_all_to_read_and_root_to_change(host, path):
    directory = host.file(path)
    assert directory.is_directory
    assert (directory.user, directory.group, directory.mode) == ("root", "root", 0o755)


def test_virtual_environment_can_be_made(host):
    host.check_output(
        'place=$(mktemp -d) && trap "rm -r $place" EXIT && python3 -m venv "$place" && "$place/bin/pip" --version'
    )


def test_authorities_are_trusted(host):
    count = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(host.check_output("python3 -c %s", count)) > 100


def test_no_unit_has_failed(host):
    assert host.check_output("systemctl --failed --plain --no-legend") == ""

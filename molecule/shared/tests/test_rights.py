"""Rights of each of our units: by systemd's exposure score, from 0 for none to 9.6 for all, and by its process."""

MAXIMUM_EXPOSURE = 2.5
OURS = "grep -rl 'Made by mlfleet' /etc/systemd/system --include='*.service' --include=mlfleet.conf"


def units_of_ours(host):
    paths = host.run(OURS).stdout.split()
    return sorted({path.removesuffix(".d/mlfleet.conf").rpartition("/")[2].replace("@.", "@1.") for path in paths})


def test_units_are_confined(host):
    ask = "systemd-analyze security --no-pager %s | tail -1"
    reports = [host.check_output(ask, name) for name in units_of_ours(host)]
    print("\n".join(reports))
    exposures = {report.split()[5].rstrip(":"): float(report.split()[6]) for report in reports}
    assert list(exposures) == units_of_ours(host)
    assert {name: value for name, value in exposures.items() if value > MAXIMUM_EXPOSURE} == {}


def test_what_runs_is_confined(host):
    for name in units_of_ours(host):
        main = host.check_output("systemctl show --property=MainPID --value %s", name)
        rules = host.run(f"grep -E '^(NoNewPrivs|Seccomp):' /proc/{main}/status").stdout.split()
        assert main == "0" or rules == ["NoNewPrivs:", "1", "Seccomp:", "2"], name

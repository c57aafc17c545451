"""Workers of kinds that only the inventory defines: their queues, packages, environment, data and devices."""

import pytest

SIGN_OF_DEPLOYMENT = "systemctl cat dioptra-worker-vision@1"
DATA = "/dioptra/data"
SOURCE = "/usr/share/common-licenses"


@pytest.fixture
def process(host):
    """Return the present id of an instance's main process."""
    return lambda unit: host.check_output("systemctl show --property=MainPID --value %s", f"dioptra-worker-{unit}")


@pytest.fixture
def as_job(host, process):
    """Run a command like a job of the instance: in its view of the host, as its user."""

    def run(unit, command):
        user = f"dioptra-worker-{unit.partition('@')[0]}"
        account = f"--setuid=$(id -u {user}) --setgid=$(id -g {user})"
        return host.run(f"nsenter --target={process(unit)} --mount {account} sh -c %s", command)

    return run


@pytest.mark.parametrize("instance", ["vision@1", "scratch@1", "scratch@2"])
def test_instances_run(host, instance):
    service = host.service(f"dioptra-worker-{instance}")
    assert service.is_running
    assert service.is_enabled


def test_one_worker_listens_to_all_queues_of_its_kind(registered_workers):
    assert len(registered_workers("vision,vision-large")) == 1
    assert len(registered_workers("scratch")) == 2


def test_queues_are_registered_in_the_api(dioptra):
    names = {queue["name"] for queue in dioptra("/queues/", pageLength=50).json()["data"]}
    assert {"vision", "vision-large", "scratch"} <= names


def test_kind_has_its_package_and_the_other_has_not(host):
    program = "import tabulate, dioptra; print(tabulate.__version__)"
    assert host.check_output("/opt/mlfleet/worker-vision/bin/python -c %s", program) == "0.9.0"
    assert host.run("/opt/mlfleet/worker-scratch/bin/python -c %s", "import tabulate").rc != 0


def test_kind_has_its_environment(host, process):
    environment = host.check_output("cat /proc/%s/environ", process("vision@1")).split("\0")
    assert "OMP_NUM_THREADS=2" in environment
    assert not [word for word in environment if word.startswith("CUDA_VISIBLE_DEVICES=")]


def test_kind_has_its_secrets_which_nobody_else_reads(host, process):
    environment = host.check_output("cat /proc/%s/environ", process("vision@1")).split("\0")
    assert "HUB_TOKEN=only-for-vision" in environment
    assert host.run("grep --recursive --files-with-matches only-for-vision /etc").stdout.split() == [
        "/etc/mlfleet/dioptra-worker-vision.secret.env"
    ]
    assert host.file("/etc/mlfleet/dioptra-worker-vision.secret.env").mode == 0o600


@pytest.mark.parametrize("other", ["dioptra-worker-vision@1", "mlflow", "dioptra-restapi"])
def test_job_cannot_read_what_others_are_told(host, as_job, other):
    main, name = host.check_output("systemctl show --property=MainPID --value %s", other), other.partition("@")[0]
    assert "HOME=" in host.check_output("cat /proc/%s/environ", main)
    own = as_job("scratch@1", "cat /proc/self/environ; cat /etc/mlfleet/dioptra-worker-scratch.env")
    assert own.rc == 0
    tried = as_job("scratch@1", f"cat /proc/{main}/environ")
    assert (tried.stdout, "No such file or directory" in tried.stderr) == ("", True)
    for path in (f"/etc/mlfleet/{name}.env", f"/etc/mlfleet/{name}.secret.env", f"/var/lib/mlfleet/{name}/."):
        assert host.file(path).exists
        tried = as_job("scratch@1", f"cat {path}; ls {path}")
        assert (tried.stdout.replace(path, "").strip(), tried.stderr.count("Permission denied") > 0) == ("", True)
    for sign in ("TERM", "0"):
        assert as_job("scratch@1", f"kill -{sign} {main}").rc != 0


def test_job_that_takes_too_much_memory_ends_alone(host, process):
    unit, before = "dioptra-worker-vision@1", process("vision@1")
    shown = host.check_output("systemctl show --property=MemoryMax,CPUQuotaPerSecUSec,TasksMax %s", unit)
    assert set(shown.split()) == {f"MemoryMax={1024 * 2**20}", "CPUQuotaPerSecUSec=1.500000s", "TasksMax=500"}
    group = host.check_output("systemctl show --property=ControlGroup --value %s", unit)
    root = "/sys/fs/cgroup" + ("/memory" if host.file("/sys/fs/cgroup/memory").exists else "")
    greedy = f"echo $$ >'{root}{group}/cgroup.procs' && exec python3 -c 'bytearray(2**31)'"
    assert host.run("sh -c %s", greedy).rc == 137
    assert process("vision@1") == before
    assert host.service(unit).is_running


def test_job_reads_its_data(host, as_job):
    assert as_job("vision@1", f"cat {DATA}/GPL-3").stdout == host.file(f"{SOURCE}/GPL-3").content_string


def test_data_cannot_be_written_to_by_anybody(host, as_job):
    assert host.mount_point(DATA).exists
    assert "ro" in host.mount_point(DATA).options
    assert "Read-only file system" in as_job("vision@1", f"touch {DATA}/file").stderr
    assert "Read-only file system" in host.run(f"touch {DATA}/file").stderr


def test_data_declared_writable_can_be_written_to(host, as_job):
    host.check_output("install --directory --owner=dioptra-worker-scratch /srv/results")
    assert as_job("scratch@1", "touch /dioptra/scratch/results/file").rc == 0
    assert as_job("vision@1", "touch /dioptra/scratch/results/file").rc != 0


def test_data_is_mounted_as_long_as_a_worker_wants_it(host, eventually):
    host.check_output("systemctl stop dioptra-worker-vision@1")
    assert eventually(lambda: not host.mount_point(DATA).exists)
    host.check_output("systemctl start dioptra-worker-vision@1")
    assert host.mount_point(DATA).exists


def test_instance_may_use_its_devices_and_no_others(host, process, as_job):
    environment = host.check_output("cat /proc/%s/environ", process("scratch@1")).split("\0")
    assert "CUDA_VISIBLE_DEVICES=GPU-1" in environment
    shown = host.check_output(
        "systemctl show --property=PrivateDevices,DevicePolicy,DeviceAllow dioptra-worker-scratch@1"
    )
    assert {"PrivateDevices=no", "DevicePolicy=closed", "DeviceAllow=/dev/full rw"} <= set(shown.splitlines())
    assert not host.file("/etc/systemd/system/dioptra-worker-scratch@2.service.d/devices.conf").exists


def test_mount_that_somebody_removed_comes_back(host, play):
    host.check_output(f"umount {DATA}")
    assert play("--tags", "worker_configure")["changed"] == 1
    assert host.mount_point(DATA).exists


@pytest.mark.fleet
def test_other_source_is_mounted_after_the_workers_have_stopped(play, as_job):
    other = '{"worker_custom_kinds": [{"name": "vision", "queues": ["vision"], "mounts": [{"source": "/usr/share"}]}]}'
    assert play("--tags", "worker_configure", "--extra-vars", other)["changed"] > 0
    assert as_job("vision@1", f"ls {DATA}/common-licenses").rc == 0
    assert play("--tags", "worker_configure")["changed"] > 0
    assert as_job("vision@1", f"ls {DATA}/GPL-3").rc == 0


def test_missing_source_is_refused_before_the_worker_is_touched(host, inventory, process, play):
    before = process("vision@1")
    gone = '{"worker_custom_kinds": [{"name": "vision", "queues": ["vision"], "mounts": [{"source": "/nowhere"}]}]}'
    with pytest.raises(AssertionError, match="/nowhere: no such directory to mount"):
        play("--tags", "worker_configure", "--extra-vars", gone)
    assert process("vision@1") == before


@pytest.mark.fleet
def test_instance_that_is_gone_takes_its_devices_along(host, play):
    devices = "/etc/systemd/system/dioptra-worker-scratch@1.service.d/devices.conf"
    assert host.file(devices).exists
    none = '{"worker_custom_kinds": [{"name": "scratch", "queues": ["scratch"], "count": 0}]}'
    assert play("--tags", "worker_configure", "--extra-vars", none)["changed"] > 0
    assert not host.file(devices).exists
    assert play("--tags", "worker_configure")["changed"] > 0
    assert host.file(devices).exists

# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kinds of workers: their packages, GPUs and data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.action import unit as unit_action
from ansible_collections.mlfleet.stack.plugins.filter import unit, worker
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import Unit, UnitError
from ansible_collections.mlfleet.stack.plugins.modules import mount_sources, python_venv
from ansible_collections.mlfleet.stack.plugins.modules import unit as unit_module
from ansible_collections.mlfleet.stack.plugins.plugin_utils.mounts import Mount, escape
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import checks, inventory_checks, option_checks

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {
    "tensorflow_cpu": "tensorflow-cpu",
    "tensorflow_gpu": "tensorflow",
    "pytorch_cpu": "torch",
    "pytorch_gpu": "torch",
}
QUEUES = {"topology_worker_queues": {"worker_tensorflow_cpu": ["tensorflow-cpu"]}}


def kinds(*declared):
    return QUEUES | {"worker_custom_kinds": list(declared)}


# --- packages --------------------------------------------------------------------------------------------------------


def test_further_pins_replace_those_of_the_same_name():
    text = (
        "NumPy==2.4.6 ; python_full_version < '3.12'\nnumpy==2.5.5 ; python_full_version >= '3.12'\nscikit_learn==1.9.1"
    )
    assert (
        worker.pins(text, ["numpy==1.26.4", "tabulate==0.9.0"]) == "scikit_learn==1.9.1\nnumpy==1.26.4\ntabulate==0.9.0"
    )
    assert worker.pins(text, ["scikit-learn==1.8.0"]).count("scikit") == 1
    assert worker.pins(text, []) == text


def test_further_indexes_give_way_where_they_lack_a_version():
    assert python_venv.index_environment(None, ["https://one", "https://two"]) == {
        "UV_INDEX": "https://one https://two",
        "PIP_EXTRA_INDEX_URL": "https://one https://two",
        "UV_INDEX_STRATEGY": "unsafe-first-match",
    }
    assert python_venv.index_environment(None, []) == {}


def pinned(file):
    """Return the lines of a constraints file, each as package and rest."""
    lines = (ROOT / "constraints" / file).read_text().splitlines()
    return {tuple(line.split("==", 1)) for line in lines if "==" in line}


@pytest.mark.parametrize("name", ["restapi", "worker", *(f"worker_{kind}" for kind in FRAMEWORKS)])
def test_dioptra_is_the_same_everywhere(name):
    assert pinned("dioptra.in") <= pinned(f"{name}.txt")


@pytest.mark.parametrize(("kind", "package"), FRAMEWORKS.items())
def test_pins_of_a_kind_have_its_framework(kind, package):
    assert package in dict(pinned(f"worker_{kind}.txt"))


def test_tensorflow_without_gpus_is_what_dioptra_wants():
    """Dioptra's own extra would install the code for GPUs, so no resolver compares the two."""
    wanted, _, _ = dict(pinned("worker_tensorflow_gpu.txt"))["tensorflow"].partition(" ")
    assert dict(pinned("worker_tensorflow_cpu.txt"))["tensorflow-cpu"] == wanted


def test_pins_without_cuda_are_the_others_less_the_libraries_of_cuda():
    every, few = pinned("worker_pytorch_cpu.txt"), pinned("worker_pytorch_without_cuda.txt")
    assert few < every
    assert {package.split("-")[0] for package, _ in every - few} == {"cuda", "nvidia", "triton"}


# --- interpreters ----------------------------------------------------------------------------------------------------

OWN, NONE = "/opt/python3.12/bin/python3", "/opt/none"


def test_interpreters_that_are_asked_are_those_that_settings_name():
    kinds = [{"name": "a", "python": OWN}, {"name": "b"}, {"name": "c", "python": NONE}]
    assert worker.interpreters({"worker_python": OWN, "worker_custom_kinds": kinds}) == [OWN, NONE]
    assert worker.interpreters({"python_app_python": NONE, "worker_python": ""}) == [NONE]
    assert worker.interpreters({}) == []


FACTS_OF_DEBIAN_13 = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "service_mgr": "systemd",
    "python": {"version": {"major": 3, "minor": 13}},
    "python_version": "3.13.5",
    "pythons": {"/usr/bin/python3": "3.13.5", OWN: "3.12.11"},
}


def test_workers_run_on_the_interpreter_that_is_named_for_them(tmp_path):
    """Debian 13's is too new for TensorFlow; preflight checks the one that creates the environment."""
    in_containers = {"topology_runtime": "docker", "worker_python": OWN}
    image = {"worker_images": {"tensorflow-cpu": "registry.example.org/tf:2"}}
    hosts = {
        "own": {"worker_python": OWN},
        "of-all": {"python_app_python": OWN},
        "usual": {},
        "absent": {"worker_python": NONE},
        "built": in_containers,
        "image": in_containers | image,
        "kinds": {"worker_python": OWN, "worker_custom_kinds": [{"name": "a"}, {"name": "b", "python": NONE}]},
    }
    groups = {"worker_custom": ["kinds"], "worker_tensorflow_cpu": [name for name in hosts if name != "kinds"]}
    children = {group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()}
    inventory = {"all": {"vars": {"worker_python": ""}, "hosts": hosts, "children": children}}
    used = "{{ inventory_hostname }} has {{ __worker_python }} and {{ __worker_python_version }}"
    play = {
        "hosts": "all",
        "gather_facts": False,
        "roles": [{"role": "mlfleet.stack.topology"}],
        "vars_files": [str(ROOT / "roles/worker/vars/main.yml")],
        "tasks": [
            {"ansible.builtin.set_fact": FACTS_OF_DEBIAN_13 | {"cacheable": True}},
            {"ansible.builtin.debug": {"msg": used}},
            {"mlfleet.stack.preflight": {"roles": list(groups), "facts": True}, "run_once": True},
        ],
    }
    for name, content in {"hosts.yml": inventory, "play.yml": [play]}.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    command = [Path(sys.executable).with_name("ansible-playbook"), tmp_path / "play.yml", "-i", tmp_path / "hosts.yml"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name, interpreter in {"own": OWN, "of-all": OWN, "usual": "/usr/bin/python3"}.items():
        assert f"{name} has {interpreter} and {FACTS_OF_DEBIAN_13['pythons'][interpreter]}" in output
    assert f"built has {OWN} and 3.13.5" in output
    needs = "worker_tensorflow_cpu needs Python 3.11 or 3.12, /usr/bin/python3 of"
    assert sorted(re.findall(r"^ +(\w+: worker_.*)$", output, re.MULTILINE)) == [
        f"absent: worker_tensorflow_cpu wants {NONE}, which does not run on absent: install it first",
        f"built: {needs} built is 3.13: name your own image in worker_images",
        f"kinds: worker_custom b wants {NONE}, which does not run on kinds: install it first",
        f"usual: {needs} usual is 3.13: name another with worker_python",
    ], output


# --- devices ---------------------------------------------------------------------------------------------------------


def test_devices_are_opened_to_an_instance_by_its_drop_in():
    with_gpu, without = unit.device_files(["1", "2"], "w", {"1": ["/dev/nvidia0", "/dev/nvidiactl"]})
    assert with_gpu == {
        "path": "/etc/systemd/system/w@1.service.d/devices.conf",
        "content": "# Made by mlfleet; changes are undone by the next run.\n"
        "[Service]\nPrivateDevices=false\nDevicePolicy=closed\n"
        "DeviceAllow=/dev/nvidia0 rw\nDeviceAllow=/dev/nvidiactl rw\n",
    }
    assert without == {"path": "/etc/systemd/system/w@2.service.d/devices.conf", "state": "absent"}


def test_kinds_say_which_gpus_they_want():
    declared = [
        {"name": "a", "gpus": 1},
        {"name": "b", "count": 2, "gpus": "all"},
        {"name": "c"},
        {"name": "d", "gpus": 0},
    ]
    assert worker.gpu_wishes(declared) == [
        {"worker": "a", "count": 1, "gpus": 1},
        {"worker": "b", "count": 2, "gpus": "all"},
    ]


def wrong(gpus, count=1):
    return list(inventory_checks.gpu_problems([{"worker": "a", "count": count, "gpus": gpus}], ["gpu"]))


@pytest.mark.parametrize("gpus", [0, 1, "1", [0, 1], ["0:1"], ["GPU-8f5c1bb2"], "all"])
def test_gpus_are_a_number_or_certain_ones_or_all(gpus):
    assert wrong(gpus) == []


@pytest.mark.parametrize("gpus", [-1, "two", True, 1.5])
def test_what_gpus_are_not(gpus):
    assert wrong(gpus) == [f"gpus of a is {gpus!r}: give a number, a list of GPUs, or all"]


def test_named_gpus_are_shared_out_evenly():
    assert wrong([0, 1, 2], count=2) == ["a names 3 GPUs for 2 instances: name as many for each, or change count"]


# --- kinds -----------------------------------------------------------------------------------------------------------


def test_jobs_are_for_dioptras_own_workers():
    declared = [
        {"name": "a", "queues": ["a1", "a2"]},
        {"name": "b", "queues": ["b"], "count": 0},
        {"name": "c", "queues": ["c"], "command": "other"},
    ]
    hosts = {"n1": {"worker_custom_kinds": declared, "worker_x_count": "0"}, "n2": {}}
    groups = {"worker_custom": ["n1", "n2"], "worker_x": ["n1"], "worker_y": ["n1", "n2"]}
    queues = {"worker_x": ["x"], "worker_y": ["y"], "worker_z": ["z"]}
    assert worker.queue_workers(queues, groups, hosts) == {"y": 2, "a1": 1, "a2": 1}


def test_gpus_that_workers_of_a_host_need():
    groups = {
        "gpu": ["n1", "n2", "n3"],
        "worker_a_gpu": ["n1", "n2"],
        "worker_a_cpu": ["n1"],
        "worker_custom": ["n1", "n3"],
    }
    declared = [
        {"name": "a", "count": 2, "gpus": 2},
        {"name": "b", "gpus": [0, "MIG-1", "1:0"]},
        {"name": "c", "count": 0, "gpus": [1]},
        {"name": "d", "gpus": "all"},
        {"name": "e"},
    ]
    hosts = {"n1": {"worker_a_gpu_count": "3"}, "n2": {"worker_a_gpu_gpus": 0}, "n3": {"worker_custom_kinds": declared}}
    assert worker.declared_gpus(groups, hosts) == {"n1": 3, "n3": 8}


@pytest.mark.parametrize("kind", ["tensorflow", "pytorch"])
def test_a_worker_on_gpus_needs_one_by_default(kind):
    defaults = yaml.safe_load((ROOT / f"roles/worker_{kind}_gpu/defaults/main.yml").read_text())
    assert (defaults[f"worker_{kind}_gpu_count"], defaults[f"worker_{kind}_gpu_gpus"]) == (1, 1)
    group = f"worker_{kind}_gpu"
    assert worker.declared_gpus({"gpu": ["n1"], group: ["n1"]}, {"n1": {}}) == {"n1": 1}


@pytest.mark.parametrize("name", ["vision", "vision-2", "a" * 40])
def test_names_of_kinds(name):
    assert not list(checks.custom_kinds(kinds({"name": name, "queues": ["q"]})))


@pytest.mark.parametrize("name", ["Vision", "my kind", "a_b", "-a", "a@1", "", "a" * 41, "a\n"])
def test_what_is_no_name_of_a_kind(name):
    [line] = checks.custom_kinds(kinds({"name": name, "queues": ["q"]}))
    assert line.startswith(f"worker_custom_kinds: name {name!r} is not")


def test_kind_is_nobody_elses():
    own = {"name": "own", "queues": ["q"]}
    assert list(checks.custom_kinds(kinds(own, own, {"name": "tensorflow-cpu", "queues": ["q"]}))) == [
        "worker_custom_kinds: own is defined twice",
        "worker_custom_kinds: tensorflow-cpu is the kind of group worker_tensorflow_cpu; use another name",
    ]


@pytest.mark.parametrize("package", ["tabulate", "tabulate>=1", "tabulate[all]==1", "git+https://x/y", "x==1.*"])
def test_package_of_a_kind_is_pinned(package):
    [line] = checks.custom_kinds(kinds({"name": "a", "queues": ["q"], "packages": ["ok==1.0+cpu", package]}))
    assert line == f"worker_custom_kinds: package {package!r} of a is not pinned like name==1.2.3"


# --- mounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dioptra/data", "dioptra-data"),
        ("/my-data/x_1", r"my\x2ddata-x_1"),
        ("/.hidden/a", r"\x2ehidden-a"),
        ("/", "-"),
    ],
)
def test_units_are_named_as_systemd_does(path, name):
    assert escape(path) == name
    if shutil.which("systemd-escape"):
        assert subprocess.check_output(["systemd-escape", "--path", path], text=True).strip() == name


def test_directory_is_bound_read_only():
    [file] = unit.mount_files([{"source": "/srv/datasets"}])
    assert file["path"] == "/etc/systemd/system/dioptra-data.mount"
    lines = file["content"].splitlines()
    assert {"What=/srv/datasets", "Where=/dioptra/data", "Type=none", "Options=bind,ro"} <= set(lines)


def test_export_is_mounted_with_the_documented_options_or_yours():
    export = {"source": "10.0.0.10:/dioptra/data", "read_only": False}
    assert "Type=nfs\nOptions=nfsvers=4,actimeo=1800,rw\n" in Mount.of(export).text
    assert "Options=nfsvers=4.2,soft,rw\n" in Mount.of(export | {"options": ["nfsvers=4.2", "soft"]}).text


def test_only_declared_paths_can_be_written_to():
    mounts = [{"source": "/a"}, {"source": "/b", "path": "/dioptra/b", "read_only": False}]
    assert unit.writable_paths(mounts) == ["/dioptra/b"]
    assert unit.mount_units(mounts) == ["dioptra-data.mount", "dioptra-b.mount"]


@pytest.mark.parametrize(
    ("mount", "word"),
    [
        ({"source": "datasets"}, "source"),
        ({"source": "/my data"}, "source"),
        ({"source": "/a", "path": "data"}, "path"),
        ({"source": "/a", "path": "/dioptra/../etc"}, "path"),
        ({"source": "/a", "path": "/home/data"}, "hidden"),
        ({"source": "/a", "path": "/tmp"}, "hidden"),
        ({"source": "/a", "path": "/etc"}, "the system's own"),
        ({"source": "/a", "path": "/usr/share/data"}, "the system's own"),
        ({"source": "/a", "path": "/opt"}, "the system's own"),
        ({"source": "/a", "path": "/opt/mlfleet/worker-a"}, "the system's own"),
        ({"source": "/a", "path": "/srv"}, "overlaps with MinIO's /srv/minio"),
        ({"source": "/a", "path": "/srv/minio/data"}, "overlaps with MinIO's /srv/minio"),
        ({"source": "/a", "options": ["a,b"]}, "blank"),
        ({"source": "/a", "options": ["rw"]}, "read_only: false"),
    ],
)
def test_mount_that_cannot_be_made_is_refused(mount, word):
    pools = {"minio_pools": [{"hosts": ["a"], "volumes": ["/srv/minio/"]}]}
    for option in "worker_tensorflow_cpu_mounts", "serving_mounts":
        [line] = checks.mounts({option: [mount]} | pools)
        assert line.startswith(f"{option}: ") and word in line


def test_kinds_share_a_path_when_they_mean_the_same():
    same = [{"source": "/srv"}]
    shared = {"worker_tensorflow_cpu_mounts": same, "topology_worker_mounts": same, "worker_mounts": [{"source": "/x"}]}
    assert not list(checks.mounts(shared | kinds({"name": "a", "queues": ["a"]})))
    [line] = checks.mounts(shared | kinds({"name": "a", "queues": ["a"], "mounts": [{"source": "server:/d"}]}))
    assert line == (
        "/dioptra/data is requested from /srv read-only by worker_tensorflow_cpu_mounts "
        "and server:/d read-only by worker_custom_kinds a; use another path, or the same source and options"
    )
    assert not list(checks.mounts(shared | kinds({"name": "a", "queues": ["a"], "mounts": []})))


def test_mounts_have_the_same_options_wherever_they_are_declared():
    def lists(options):
        for name, option in options.items():
            if name == "mounts" or name.endswith("_mounts"):
                yield name, option["options"]
            yield from lists(option.get("options", {}))

    found = []
    for file in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        (entry_point,) = yaml.safe_load(file.read_text())["argument_specs"].values()
        found += lists(entry_point["options"])
    found += lists(yaml.safe_load((ROOT / "roles/topology/meta/shared_settings/workers.yml").read_text()))
    assert len(found) == 10
    usual = dict(found)["unit_mounts"]
    # A model has no usual path, and Dioptra's is of another stack.
    of_models = {"type": "str", "required": True, "description": "Mount point, such as C(/srv/models)."}
    for name, options in found:
        assert options == (usual | {"path": of_models} if name == "serving_mounts" else usual), name


def test_what_a_user_cannot_read_is_found(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    (tmp_path / "open").touch(0o644)
    assert mount_sources.first_unreadable(tmp_path, "nobody", 5) == ""
    (tmp_path / "closed").touch(0o600)
    if os.geteuid() == 0:
        assert mount_sources.first_unreadable(tmp_path, "nobody", 5) == "./closed"
        assert mount_sources.first_unreadable(tmp_path, "no-such-user", 5) == "./closed"
    monkeypatch.setattr(mount_sources, "UNREADABLE", ["-exec", "sleep", "9", ";"])
    assert mount_sources.first_unreadable(tmp_path, "nobody", 0.1) == ""


def test_documentation_of_unit_matches_its_arguments():
    keys = ("type", "elements", "default", "required")

    def plain(options):
        return {name: {key: value for key, value in option.items() if key in keys} for name, option in options.items()}

    documented = yaml.safe_load(unit_module.DOCUMENTATION)["options"]
    assert plain(documented) == plain(unit_action.ARGUMENT_SPEC)
    assert plain(documented["mounts"]["suboptions"]) == plain(unit_action.MOUNT_OPTIONS)


def test_mount_is_renewed_when_its_unit_is_newer(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "UNITS", tmp_path)
    file = tmp_path / "data.mount"
    file.touch()

    def found(state, age):
        mount = object.__new__(Unit)
        mount.id, mount.state, mount.started_at = file.name, state, file.stat().st_mtime + age
        return mount

    assert health.plan_wanted(found("active", 1), []) == ""
    assert health.plan_wanted(found("active", -1), []).startswith("restarted")
    assert health.plan_wanted(found("active", 1), [str(file)]).startswith("restarted")
    assert health.plan_wanted(found("inactive", 1), [str(file)]).startswith("started")


@pytest.mark.parametrize(("serial", "is_good"), [("1", True), (2, True), ("25%", True), ("0", False), ("two", False)])
def test_rollouts_go_by_a_number_or_a_percentage(serial, is_good):
    assert (list(checks.rollout_serial({"topology_rollout_serial": serial})) == []) is is_good


def test_rollouts_go_by_one_value_for_the_whole_inventory():
    groups = {"all": ["h1", "h2"]}
    assert not list(inventory_checks.scattered("h2", groups, lambda _host: {}))
    hosts = {"h1": {"topology_rollout_serial": "1"}, "h2": {}}
    assert not list(inventory_checks.scattered("h1", groups, hosts.get))
    [line] = inventory_checks.scattered("h2", groups, hosts.get)
    assert line == "topology_rollout_serial: differs from its value on h1; set it once, in group_vars/all"


def test_front_end_is_the_same_on_all_of_its_hosts():
    groups = {"all": ["h0", "h1", "h2"], "frontend": ["h1", "h2"]}
    hosts = {"h0": {}, "h1": {"frontend_ref": "v1"}, "h2": {"frontend_ref": "v2"}}
    assert not list(inventory_checks.scattered("h0", groups, hosts.get))
    [line] = inventory_checks.scattered("h2", groups, hosts.get)
    assert line == "frontend_ref: differs from its value on h1; set it once, in group_vars/frontend"


def test_who_shares_data_stays_stopped_when_it_cannot_be_mounted_anew(monkeypatch):
    """They stay stopped rather than run jobs without their data."""
    said = []

    def command(*words, timeout=None):
        said.append(words[1])
        if words[1] == "restart":
            raise UnitError("no such server")
        return "mine@1.service other@1.service\n"

    running = type("Running", (), {"is_running": True})
    mine, other = running(), running()
    mine.id, other.id = "mine@1.service", "other@1.service"
    monkeypatch.setattr(health, "command", command)
    monkeypatch.setattr(health, "units", lambda names: [other])
    options = {"timeout_seconds": 1, "stop_timeout_seconds": 1}
    with pytest.raises(UnitError, match=r"no such server\n.*stay stopped: mine@1\.service, other@1\.service"):
        health.renew(["data.mount"], [mine], options)
    assert said == ["show", "stop", "restart"]


@pytest.mark.parametrize(
    ("queues", "line"),
    [
        ([], "worker_custom_kinds a: has no queue; name one"),
        (
            ["two words"],
            "worker_custom_kinds a: queue 'two words' has characters other than letters, digits, . _ : and -",
        ),
        (["$HOME"], "worker_custom_kinds a: queue '$HOME' has characters other than letters, digits, . _ : and -"),
        (["vision", "tensorflow-cpu_2"], None),
    ],
)
def test_queues_can_stand_in_a_command(queues, line):
    assert list(checks.queues(kinds({"name": "a", "queues": queues}))) == ([line] if line else [])


def test_queues_are_named_for_all_kinds_or_none():
    settings = (ROOT / f"roles/topology/{kind}/workers.yml" for kind in ("meta/shared_settings", "defaults/main"))
    option, defaults = (yaml.safe_load(path.read_text())["topology_worker_queues"] for path in settings)
    assert option_checks.validated("topology_worker_queues", option, defaults)[1] == []
    [error] = option_checks.validated("topology_worker_queues", option, {"worker_tensorflow_cpu": ["tf"]})[1]
    assert "worker_pytorch_cpu" in error


def test_units_stop_when_the_new_packages_are_there(tmp_path, monkeypatch):
    done = []
    venv = python_venv.Venv(tmp_path / "app", tmp_path / "pins", tmp_path / "python", None)
    monkeypatch.setattr(venv, "build", lambda check: done.append("build"))
    monkeypatch.setattr(venv, "take", lambda tree: done.append("exchange"))
    pending = [("+", "certifi==2026.1.4")]
    monkeypatch.setattr(venv, "prepare", lambda: ([], pending))
    assert python_venv.installed(venv, [], lambda: done.append("stop")) == pending
    assert done == ["build", "stop", "exchange"]
    pending = []
    done.clear()
    assert python_venv.installed(venv, [], lambda: done.append("stop")) == [] and not done


@pytest.mark.parametrize("step", ["prepare", "build"])
def test_units_are_left_running_when_pins_do_not_resolve_or_install(tmp_path, monkeypatch, step):
    venv = python_venv.Venv(tmp_path / "app", tmp_path / "pins", tmp_path / "python", None)

    def fail(*_arguments):
        raise python_venv.CommandFailedError

    monkeypatch.setattr(venv, "prepare", lambda: ([], [("+", "certifi==2026.1.4")]))
    monkeypatch.setattr(venv, step, fail)
    with pytest.raises(python_venv.CommandFailedError):
        python_venv.installed(venv, [], lambda: pytest.fail("stopped"))


def test_requirements_of_a_kind_are_there(tmp_path):
    file = tmp_path / "vision.txt"
    (line,) = checks.custom_kinds(kinds({"name": "a", "queues": ["a"], "requirements_file": str(file)}))
    assert f"there is no {file}" in line
    file.touch()
    assert not list(checks.custom_kinds(kinds({"name": "a", "queues": ["a"], "requirements_file": str(file)})))
    (line,) = checks.custom_kinds(kinds({"name": "a", "queues": ["a"], "requirements_file": "vision.txt"}))
    assert "give its absolute path" in line


# --- containers ------------------------------------------------------------------------------------------------------


def test_containers_can_be_units():
    fine = {"name": "pages", "image": "x", "command": "/bin/pages"}
    assert list(checks.containers({"containers_extra": [fine]})) == []
    assert list(checks.containers({"containers_extra": [fine, fine | {"command": "pages --all"}]})) == [
        "containers_extra: pages is defined twice",
        "containers_extra: command of pages has no absolute path: pages --all",
    ]
    [line] = checks.containers({"containers_extra": [fine | {"name": "My Pages"}]})
    assert line.startswith("containers_extra: name 'My Pages' is not")

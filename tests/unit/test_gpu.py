"""GPUs as hosts report them, and their assignment. The origin of the outputs in gpu/ is in gpu/README.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlfleet.stack.plugins.module_utils import gpu
from ansible_collections.mlfleet.stack.plugins.modules import gpu_facts
from ansible_collections.mlfleet.stack.plugins.plugin_utils import gpu_placement
from ansible_collections.mlfleet.stack.plugins.plugin_utils.gpu_placement import PlacementError
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import inventory_checks

OUTPUTS = Path(__file__).with_name("gpu")


def said(name):
    return (OUTPUTS / name).read_text()


def facts(name):
    """Return the facts read from the outputs of this name."""
    files = [OUTPUTS / f"{name}.{ending}" for ending in ("xml", "txt", "minors.txt")]
    return gpu.from_smi(*(file.read_text() if file.exists() else "" for file in files))


def told(name):
    """Return the same in short."""
    found = facts(name)
    columns = ("index", "model", "memory_mb", "minor", "mig_enabled")
    return found["driver_version"], found["cuda_version"], [tuple(each[c] for c in columns) for each in found["gpus"]]


# --- what a host has -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "driver", "cuda", "gpus"),
    [
        ("k80_old", "384.81", "", [(0, "Tesla K80", 11439, 0, False)]),
        ("k80", "470.256.02", "11.4", [(0, "Tesla K80", 11441, 0, False), (1, "Tesla K80", 11441, 1, False)]),
        ("v100", "460.73.01", "11.2", [(0, "Tesla V100S-PCIE-32GB", 32510, 0, False)]),
        ("t4", "515.105.01", "11.7", [(0, "Tesla T4", 15360, 0, False)]),
        ("rtx3090", "525.147.05", "12.0", [(0, "NVIDIA GeForce RTX 3090", 24576, 0, False)]),
        ("h100", "535.129.03", "12.2", [(0, "NVIDIA H100 80GB HBM3", 81559, 5, False)]),
        ("a100_mig_450", "450.80.02", "11.0", [(0, "A100-SXM4-40GB", 40537, 0, True)]),
        (
            *("a100_mig", "535.54.03", "12.2"),
            [(0, "NVIDIA A100-SXM4-80GB", 81920, 1, True), (1, "NVIDIA A100-SXM4-80GB", 81920, 0, False)],
        ),
        (
            *("h200_mig", "570.133.20", "12.8"),
            [(0, "NVIDIA H200", 143771, 0, True), (1, "NVIDIA H200", 143771, 1, False)],
        ),
    ],
)
def test_every_generation_is_read(name, driver, cuda, gpus):
    assert told(name) == (driver, cuda, gpus)
    assert facts(name)["problem"] == ""


def test_gpu_has_all_that_is_promised():
    assert facts("t4")["gpus"] == [
        {
            "index": 0,
            "uuid": "GPU-d37e67a5-91dd-3774-a5cb-99096249601a",
            "model": "Tesla T4",
            "vendor": "NVIDIA",
            "memory_mb": 15360,
            "minor": 0,
            "mig_enabled": False,
            "mig_slices": [],
        }
    ]


def test_slices_have_profile_uuid_and_the_devices_of_their_instances():
    divided, whole = facts("a100_mig")["gpus"]
    assert [part["index"] for part in divided["mig_slices"]] == [0, 1, 2, 3]
    assert divided["mig_slices"][1] == {
        "index": 1,
        "uuid": "MIG-14549027-dd49-5cc0-bca4-55e67011bd85",
        "profile": "1g.20gb",
        # Of GPU instance 4 of the GPU with minor 1; the other GPU, with index 1, has such an instance too.
        "devices": ["/dev/nvidia-caps/nvidia-cap174", "/dev/nvidia-caps/nvidia-cap175"],
    }
    assert whole["mig_slices"] == []


def test_slices_of_different_profiles_and_of_old_drivers():
    assert [part["profile"] for part in facts("h200_mig")["gpus"][0]["mig_slices"]] == ["2g.35gb", "1g.18gb"]
    [divided] = facts("a100_mig_450")["gpus"]
    assert [part["uuid"] for part in divided["mig_slices"]] == [
        f"MIG-GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f/{instance}/0" for instance in (7, 8)
    ]


def test_mig_without_slices_is_a_problem_with_its_mend():
    found = gpu.from_smi(said("h200_mig.xml"), "")
    assert [each["mig_slices"] for each in found["gpus"]] == [[], []]
    assert found["problem"] == (
        "MIG is on without slices on GPU 0: make some with nvidia-smi mig -cgi PROFILE -C, "
        "or turn it off with nvidia-smi -mig 0"
    )


def test_values_that_a_gpu_does_not_have_are_none():
    report = said("t4.xml").replace("15360 MiB", "N/A").replace("<minor_number>0<", "<minor_number>N/A<")
    [found] = gpu.from_smi(report, "")["gpus"]
    assert (found["memory_mb"], found["minor"]) == (None, None)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (said("mismatch.txt"), "the loaded NVIDIA driver and its libraries differ in version: reboot the host"),
        (
            said("no_driver.txt"),
            "the NVIDIA driver is not loaded: install it for the running kernel, see dkms status, ",
        ),
        (said("no_library.txt"), "the libraries of the NVIDIA driver are missing: install libnvidia-ml1"),
        (said("no_devices.txt"), "the NVIDIA driver finds no GPU that it can use: see lspci -d 10de: and journalctl"),
        (said("lost.txt"), "a GPU no longer answers: see journalctl --dmesg --grep NVRM, then reboot the host"),
        ("\nSegmentation fault\n", "nvidia-smi fails, run it on the host: Segmentation fault"),
        ("", "nvidia-smi fails, run it on the host: it writes nothing"),
        ("<nvidia_smi_log><gpu></nvidia_smi_log>", "nvidia-smi fails, run it on the host: <nvidia_smi_log>"),
        ("<nvidia_smi_log><attached_gpus>0</attached_gpus></nvidia_smi_log>", "the NVIDIA driver finds no GPU that it"),
    ],
)
def test_failing_nvidia_smi_is_an_answer_with_the_mend(output, problem):
    found = gpu.from_smi(output, output)
    assert found["gpus"] == []
    assert found["problem"].startswith(problem)
    assert "\n" not in found["problem"]


def test_other_gpus_are_told_when_one_is_lost():
    report = said("lost.txt") + said("t4.xml")
    listing = said("lost.txt") + "GPU 1: Tesla T4 (UUID: GPU-d37e67a5-91dd-3774-a5cb-99096249601a)\n"
    found = gpu.from_smi(report, listing)
    assert [each["index"] for each in found["gpus"]] == [1]
    assert found["problem"].startswith("a GPU no longer answers")


def test_warnings_after_the_report_do_no_harm():
    report = said("t4.xml") + "WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n"
    assert gpu.from_smi(report, "") == facts("t4")


def test_driver_tells_what_it_knows_without_nvidia_smi():
    found = gpu.from_proc([said("proc_h100.txt"), said("proc_k80_unused.txt")], said("proc_version.txt"))
    first, second = found["gpus"]
    assert (first["index"], first["uuid"]) == (0, "GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b")
    assert (first["model"], first["minor"], first["memory_mb"]) == ("NVIDIA H100 80GB HBM3", 5, None)
    assert (second["index"], second["uuid"], second["minor"]) == (1, "", 0)
    assert found["driver_version"] == "535.129.03"
    assert found["problem"].startswith("nvidia-smi is missing, so memory and MIG slices are unknown: install")


def test_no_driver_and_no_nvidia_smi_is_no_problem():
    assert gpu.from_proc([], "") == gpu.no_facts()


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  384.81  Wed Aug 17 22:24:07 PDT 2016", "384.81"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.173.02  Release Build", "580.173.02"),
        ("GCC version:  gcc version 12.2.0", ""),
    ],
)
def test_version_of_the_loaded_driver(line, version):
    assert gpu.loaded_driver(line) == version


# --- what they measure -----------------------------------------------------------------------------------------------


def test_each_generation_measures():
    """Before, errors of two bits could not be corrected; later each kind of memory has counts of its own."""
    assert gpu.readings(said("v100.xml"), "") == {
        0: {
            "memory_used_bytes": 4 * gpu.MIB,
            "memory_total_bytes": 32510 * gpu.MIB,
            "utilization_ratio": 1.0,
            "temperature_celsius": 55,
            "ecc_uncorrected_errors_total": 3,
        }
    }
    assert gpu.readings(said("t4.xml"), "")[0]["ecc_uncorrected_errors_total"] == 0
    divided, whole_one = gpu.readings(said("a100_mig.xml"), said("a100_mig.txt")).values()
    assert "utilization_ratio" not in divided
    assert divided["memory_used_bytes"] == 50 * gpu.MIB
    assert (whole_one["utilization_ratio"], whole_one["ecc_uncorrected_errors_total"]) == (0.87, 7)


@pytest.mark.parametrize("unknown", ["N/A", "[N/A]", "[Not Supported]", "[Unknown Error]", ""])
def test_what_a_gpu_does_not_know_is_no_measure(unknown):
    report = re.sub(r"(<(gpu_temp|gpu_util|used|\w+_uncorrectable)>)[^<]+", rf"\g<1>{unknown}", said("t4.xml"))
    assert gpu.readings(report, "") == {0: {"memory_total_bytes": 15360 * gpu.MIB}}
    assert gpu.readings(said("rtx3090.xml"), "") == {0: {"memory_total_bytes": 24576 * gpu.MIB}}


def test_a_gpu_keeps_its_number_when_another_is_lost():
    listing = said("lost.txt") + "GPU 1: Tesla T4 (UUID: GPU-d37e67a5-91dd-3774-a5cb-99096249601a)\n"
    assert list(gpu.readings(said("lost.txt") + said("t4.xml"), listing)) == [1]
    for nothing in ("lost.txt", "no_driver.txt", "mismatch.txt"):
        assert gpu.readings(said(nothing), said(nothing)) == {}
    assert gpu.readings("<nvidia_smi_log><gpu></nvidia_smi_log>", "") == {}


# --- assignment ------------------------------------------------------------------------------------------------------


def whole(index, minor=None):
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "model": "Tesla T4",
        "vendor": "NVIDIA",
        "memory_mb": 15360,
        "minor": index if minor is None else minor,
        "mig_enabled": False,
        "mig_slices": [],
    }


def divided(index, slices):
    parts = [
        {
            "index": number,
            "uuid": f"MIG-{index}-{number}",
            "profile": "1g.5gb",
            "devices": [f"/dev/nvidia-caps/nvidia-cap{index}{number}", f"/dev/nvidia-caps/nvidia-cap{index}{number}1"],
        }
        for number in range(slices)
    ]
    return whole(index) | {"mig_enabled": True, "mig_slices": parts}


def host(kinds):
    """Return a host's GPUs: a letter each, g for a whole one, and a digit for one with that many MIG slices."""
    return [whole(index) if kind == "g" else divided(index, int(kind)) for index, kind in enumerate(kinds)]


def wish(text):
    """Return a wish from its text in the table: worker, count, gpus."""
    worker, count, *gpus = text.split(maxsplit=2)
    return {"worker": worker, "count": int(count)} | ({"gpus": yaml.safe_load(gpus[0])} if gpus else {})


def placed(kinds, *wishes):
    """Return the GPUs of each instance."""
    result = {}
    for each in gpu_placement.assign([wish(text) for text in wishes], host(kinds)):
        result.setdefault(each["worker"], []).append("+".join(each["gpus"]) or "-")
    return {worker: " ".join(instances) for worker, instances in result.items()}


@pytest.mark.parametrize(
    ("kinds", "wishes", "gets"),
    [
        # Automatic: the lowest free ones, wish by wish.
        ("g", ["tf 1"], {"tf": "0"}),
        ("gg", ["tf 1", "torch 1"], {"tf": "0", "torch": "1"}),
        ("gggg", ["tf 2", "torch 1 2"], {"tf": "0 1", "torch": "2+3"}),
        ("gggg", ["tf 2 2"], {"tf": "0+1 2+3"}),
        ("gg", ["tf 0", "torch 2"], {"torch": "0 1"}),
        ("gg", ["tf 1 '2'"], {"tf": "0+1"}),
        # None wanted.
        ("", [], {}),
        ("", ["tf 2 0", "torch 0"], {"tf": "- -"}),
        ("", ["tf 0 all", "torch 0 [0, 1, 2]"], {}),
        ("g", ["tf 3 0", "torch 1"], {"tf": "- - -", "torch": "0"}),
        ("g", ["tf 2 []"], {"tf": "- -"}),
        # Named: reserved first, and shared evenly in their order.
        ("gg", ["tf 2 [0, 1]"], {"tf": "0 1"}),
        ("gg", ["tf 1 [0, 1]"], {"tf": "0+1"}),
        ("gggg", ["tf 2 [3, 1, 0, 2]"], {"tf": "3+1 0+2"}),
        ("ggg", ["tf 2", "torch 1 [0]"], {"tf": "1 2", "torch": "0"}),
        ("gg", ["tf 1 [GPU-1]", "torch 1"], {"tf": "1", "torch": "0"}),
        ("gg", ["tf 1 ['1']"], {"tf": "1"}),
        # All.
        ("ggg", ["tf 1 all"], {"tf": "0+1+2"}),
        ("gg", ["tf 2 0", "torch 1 all"], {"tf": "- -", "torch": "0+1"}),
        ("1", ["tf 1 all"], {"tf": "0:0"}),
        # MIG: slices are assigned, one for each instance; several must be whole GPUs.
        ("3", ["tf 2", "torch 1"], {"tf": "0:0 0:1", "torch": "0:2"}),
        ("2g", ["tf 2", "torch 1"], {"tf": "0:0 0:1", "torch": "1"}),
        ("g2", ["tf 2", "torch 1 ['1:0']"], {"tf": "0 1:1", "torch": "1:0"}),
        ("2", ["tf 2 [MIG-0-1, MIG-0-0]"], {"tf": "0:1 0:0"}),
        ("2gg", ["tf 1 2", "torch 1"], {"tf": "1+2", "torch": "0:0"}),
        ("0g", ["tf 1"], {"tf": "1"}),
    ],
)
def test_placement(kinds, wishes, gets):
    assert placed(kinds, *wishes) == gets


@pytest.mark.parametrize(
    ("kinds", "wishes", "line"),
    [
        ("", ["tf 1"], "GPUs are requested, but this host has none: install the NVIDIA driver, or request 0"),
        ("", ["tf 1 [0]"], "GPUs are requested, but this host has none: install the NVIDIA driver, or request 0"),
        ("", ["tf 1 all"], "GPUs are requested, but this host has none: install the NVIDIA driver, or request 0"),
        ("g", ["tf 2"], "2 GPUs are requested, but this host has 1: lower count or gpus"),
        ("gg", ["tf 1 2", "torch 3"], "5 GPUs are requested, but this host has 2: lower count or gpus"),
        ("gg", ["tf 1 all", "torch 1"], "3 GPUs are requested, but this host has 2: lower count or gpus"),
        ("gg", ["tf 1", "torch 2 [0, 1]"], "3 GPUs are requested, but this host has 2: lower count or gpus"),
        ("3", ["tf 4"], "4 GPUs are requested, but this host has 3: lower count or gpus"),
        ("gg", ["tf 1 [0]", "torch 1 [0]"], "GPU 0 is assigned twice, to tf and torch: name it once"),
        ("gg", ["tf 2 [1, GPU-1]"], "GPU 1 is assigned twice, to tf and tf: name it once"),
        ("gg", ["tf 1 all", "torch 1 [1]"], "GPU 1 is assigned twice, to tf and torch: name it once"),
        ("gg", ["tf 1 [2]"], "tf wants GPU 2, which this host does not have: name one of 0, 1"),
        ("g2", ["tf 1 [GPU-9]"], "tf wants GPU GPU-9, which this host does not have: name one of 0, 1:0, 1:1"),
        ("2", ["tf 1 ['0:2']"], "tf wants GPU 0:2, which this host does not have: name one of 0:0, 0:1"),
        ("2", ["tf 1 [0]"], "tf wants GPU 0, which MIG divides: name one of 0:0, 0:1"),
        ("2", ["tf 1 [GPU-0]"], "tf wants GPU GPU-0, which MIG divides: name one of 0:0, 0:1"),
        ("ggg", ["tf 2 [0, 1, 2]"], "tf names 3 GPUs for 2 instances: name as many for each, or change count"),
        ("gg", ["tf 2 all"], "tf wants all GPUs for each of 2 instances: set count to 1, or a number"),
        ("gg", ["tf 1 -1"], "gpus of tf is -1: give a number, a list of GPUs, or all"),
        ("gg", ["tf 1 both"], "gpus of tf is 'both': give a number, a list of GPUs, or all"),
        ("gg", ["tf 1 true"], "gpus of tf is True: give a number, a list of GPUs, or all"),
        ("gg", ["tf 1", "tf 1"], "tf is listed twice: merge the entries, or give each its own name"),
        (
            *("2g", ["tf 1 2"]),
            "tf wants 2 GPUs for an instance, and too few whole ones are left, as CUDA shows a program one MIG slice "
            "only: ask for 1, or turn MIG off",
        ),
        (
            *("2", ["tf 1 all"]),
            "tf wants 0:0, 0:1 for an instance, and CUDA shows a program one MIG slice only: "
            "name one for each instance, or turn MIG off",
        ),
    ],
)
def test_placement_that_cannot_be(kinds, wishes, line):
    with pytest.raises(PlacementError) as error:
        placed(kinds, *wishes)
    first, empty, heading, *rows = str(error.value).splitlines()
    assert (first, empty) == (line, "")
    assert heading.split() == ["worker", "instances", "wants", "gets"]
    assert [row.split()[:2] for row in rows] == [text.split()[:2] for text in wishes]


def test_error_shows_in_a_table_who_wants_and_gets_what():
    wishes = ["tensorflow_gpu 2", "pytorch_gpu 2 2", "custom 1 [0]", "cpu 1 0"]
    with pytest.raises(PlacementError) as error:
        placed("ggggg", *wishes)
    assert str(error.value).splitlines() == [
        "7 GPUs are requested, but this host has 5: lower count or gpus",
        "",
        "worker          instances  wants   gets",
        "tensorflow_gpu  2          1 each  1, 2",
        "pytorch_gpu     2          2 each  3+4, -",
        "custom          1          0       0",
        "cpu             1          0 each  -",
    ]


@pytest.mark.parametrize(
    ("kinds", "line"),
    [
        ("", "GPUs are requested, but this host has none: reboot the host"),
        ("g", "2 GPUs are requested, but this host has 1: lower count or gpus (reboot the host)"),
    ],
)
def test_error_tells_the_problem_that_the_host_has(kinds, line):
    with pytest.raises(PlacementError) as error:
        gpu_placement.assign([wish("tf 2")], host(kinds), problem="reboot the host")
    assert str(error.value).splitlines()[0] == line


@pytest.mark.parametrize("kinds", ["ggggg", "3gg", "g4"])
@pytest.mark.parametrize("more", ["custom 0", "custom 2", "custom 3", "custom 1 0"])
def test_changing_the_last_moves_none_placed_before(kinds, more):
    before = placed(kinds, "tf 1", "torch 1", "custom 1")
    after = placed(kinds, "tf 1", "torch 1", more)
    assert [after["tf"], after["torch"]] == [before["tf"], before["torch"]]


def test_growing_a_worker_keeps_what_its_instances_have():
    few, many = placed("gggg", "tf 1", "torch 1 2")["tf"], placed("gggg", "tf 2", "torch 1 2")["tf"]
    assert many.split()[0] == few


def test_instance_keeps_what_it_has_when_another_kind_grows():
    wishes = [{"worker": "a", "count": 2, "gpus": 1}, {"worker": "b", "count": 1, "gpus": 1}]
    held = {("a", "1"): ["GPU-0"], ("b", "1"): ["1"], ("gone", "1"): ["GPU-2"]}
    gpus = [whole(number) | {"uuid": f"GPU-{number}"} for number in range(3)]
    placed = gpu_placement.assign(wishes, gpus, held=held)
    assert [each["gpus"] for each in placed] == [["0"], ["2"], ["1"]]
    growing = [{"worker": "a", "count": 1, "gpus": 2}, {"worker": "b", "count": 1, "gpus": 1}]
    assert [each["gpus"] for each in gpu_placement.assign(growing, gpus, held=held)] == [["0", "2"], ["1"]]


def test_what_is_held_gives_way_when_nothing_else_fits():
    held = {("a", "1"): ["1"]}
    wishes = [{"worker": "a", "count": 1, "gpus": 1}, {"worker": "b", "count": 1, "gpus": 2}]
    placed = gpu_placement.assign(wishes, [divided(0, 1), whole(1), whole(2)], held=held)
    assert [each["gpus"] for each in placed] == [["0:0"], ["1", "2"]]
    with pytest.raises(gpu_placement.PlacementError, match="too few whole ones are left"):
        gpu_placement.assign(wishes, [divided(0, 1), whole(1), whole(2)], held=held, may_move=False)
    with pytest.raises(gpu_placement.PlacementError, match="3 GPUs are requested"):
        gpu_placement.assign(wishes, [whole(1), whole(2)], held=held)


def test_what_is_named_goes_before_what_is_held():
    wishes = [{"worker": "a", "count": 1, "gpus": 1}, {"worker": "b", "count": 1, "gpus": [0]}]
    placed = gpu_placement.assign(wishes, [whole(0), whole(1)], held={("a", "1"): ["0"]})
    assert [each["gpus"] for each in placed] == [["1"], ["0"]]


def test_module_tells_what_instances_hold(tmp_path):
    for name, text in {
        "dioptra-worker-a/1.env": 'CUDA_VISIBLE_DEVICES="GPU-0,GPU-1"\n',
        "dioptra-worker-a/2.env": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    held = gpu_facts.holders(f"{tmp_path}/dioptra-worker-*/*.env")
    assert inventory_checks.gpu_holders(held) == {("a", "1"): ["GPU-0", "GPU-1"]}


def test_index_is_the_one_that_nvidia_smi_lists():
    head, first, second, tail = re.split("(?=<gpu )|(?=</nvidia_smi_log>)", said("k80.xml"))
    assert gpu.from_smi(head + second + first + tail, said("k80.txt")) == facts("k80")


def test_wish_may_leave_out_gpus_and_is_not_changed():
    wishes = [{"worker": "tf", "count": 1}, {"worker": "torch", "count": 1, "gpus": [0]}]
    before = json.dumps(wishes)
    gpu_placement.assign(wishes, host("gg"))
    assert json.dumps(wishes) == before


# --- environment of an instance --------------------------------------------------------------------------------------


def test_instance_gets_uuids_and_device_nodes_by_minor():
    [first, second] = gpu_placement.assign([wish("tf 2 2")], [whole(0, 3), whole(1, 2), whole(2, 1), whole(3, 0)])
    assert first == {
        "worker": "tf",
        "instance": "1",
        "gpus": ["0", "1"],
        "uuids": ["GPU-0", "GPU-1"],
        "environment": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1"},
        "devices": ["/dev/nvidia3", "/dev/nvidia2", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"],
    }
    assert (second["instance"], second["devices"][:2]) == ("2", ["/dev/nvidia1", "/dev/nvidia0"])


def test_instance_with_a_slice_gets_the_devices_of_its_capabilities_and_no_others():
    divided_gpu, _whole = facts("a100_mig")["gpus"]
    _first, second = gpu_placement.assign([wish("tf 2")], [divided_gpu])
    assert second["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-14549027-dd49-5cc0-bca4-55e67011bd85"
    assert second["devices"] == [
        "/dev/nvidia1",
        "/dev/nvidia-caps/nvidia-cap174",
        "/dev/nvidia-caps/nvidia-cap175",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
    ]


def test_instance_without_gpus_sees_none():
    [mine] = gpu_placement.assign([wish("tf 1 0")], host("gg"))
    assert mine["environment"]["CUDA_VISIBLE_DEVICES"] == "-1"
    assert (mine["uuids"], mine["devices"]) == ([], [])


def test_gpu_of_unknown_uuid_is_named_by_its_index():
    found = gpu.from_proc([said("proc_k80_unused.txt"), said("proc_h100.txt")], said("proc_version.txt"))
    [mine] = gpu_placement.assign([wish("tf 1")], found["gpus"])
    assert mine["environment"] == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    assert mine["devices"][0] == "/dev/nvidia0"
    # CUDA accepts indices or UUIDs, not both at once.
    [both] = gpu_placement.assign([wish("tf 1 all")], found["gpus"])
    assert both["uuids"] == ["0", "1"]


# --- the module ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path):
    """Create a command from a shell script."""

    def make(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def driver(tmp_path):
    """The files of a loaded driver in /proc/driver, with two GPUs."""
    root = tmp_path / "driver"
    for bus, name in (("0000:03:00.0", "proc_k80_unused.txt"), ("0000:62:00.0", "proc_h100.txt")):
        (root / "nvidia/gpus" / bus).mkdir(parents=True)
        (root / "nvidia/gpus" / bus / "information").write_text(said(name))
    (root / "nvidia/version").write_text(said("proc_version.txt"))
    (root / "nvidia-caps").mkdir()
    (root / "nvidia-caps/mig-minors").write_text(said("a100_mig.minors.txt"))
    return root


def smi(command, name):
    return command("nvidia-smi", f'[ "$1" = -L ] && exec cat {OUTPUTS}/{name}.txt\nexec cat {OUTPUTS}/{name}.xml')


def test_module_asks_nvidia_smi_and_reads_the_minors(command, driver):
    found = gpu_facts.facts(smi(command, "a100_mig"), driver)
    assert found == gpu.from_smi(said("a100_mig.xml"), said("a100_mig.txt"), said("a100_mig.minors.txt"))
    assert found["gpus"][0]["mig_slices"][0]["devices"]


def test_module_tells_the_loaded_driver_when_nvidia_smi_fails(command, driver):
    found = gpu_facts.facts(command("nvidia-smi", f"cat {OUTPUTS}/mismatch.txt >&2; exit 18"), driver)
    assert (found["gpus"], found["driver_version"]) == ([], "535.129.03")
    assert found["problem"] == "the loaded NVIDIA driver and its libraries differ in version: reboot the host"


def test_module_reads_the_driver_by_place_on_the_bus_without_nvidia_smi(driver):
    assert [each["model"] for each in gpu_facts.facts(None, driver)["gpus"]] == ["Tesla K80", "NVIDIA H100 80GB HBM3"]


def test_host_without_any_of_it_has_no_gpu(tmp_path):
    assert gpu_facts.facts(None, tmp_path) == gpu.no_facts()


def test_nvidia_smi_that_hangs_is_a_problem(command, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_facts, "TIMEOUT_SECONDS", 0.2)
    found = gpu_facts.facts(command("nvidia-smi", "exec sleep 30"), tmp_path)
    assert found == gpu.no_facts("nvidia-smi does not answer within 0.2 s: reboot the host")


def test_nvidia_smi_that_cannot_run_is_a_problem(tmp_path):
    (tmp_path / "nvidia-smi").mkdir()
    problem = gpu_facts.facts(str(tmp_path / "nvidia-smi"), tmp_path)["problem"]
    assert problem.startswith("nvidia-smi cannot be run, reinstall it: ")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d\n", "1.17.8"),
        ("cli-version: 1.17.5\nlib-version: 1.17.5\nbuild date: 2025-03-07T15:46+00:00\n", "1.17.5"),
        ("version: 1.3.0\nbuild date: 2020-09-16T12:32+00:00\n", "1.3.0"),
        ("error while loading shared libraries\n", ""),
    ],
)
def test_version_of_the_container_toolkit(text, version):
    assert gpu_facts.toolkit_version(text) == version


def test_toolkit_is_told_by_the_first_command_that_can(command):
    broken = command("nvidia-ctk", "echo cannot >&2; exit 1")
    works = command("nvidia-container-cli", "echo cli-version: 1.17.5")
    assert gpu_facts.toolkit([broken, works]) == "1.17.5"
    assert gpu_facts.toolkit([broken]) == gpu_facts.toolkit(["/nonexistent"]) == gpu_facts.toolkit([]) == ""


def test_module_answers_in_check_mode_and_changes_nothing(command, capsys):
    arguments = {"nvidia_smi": smi(command, "t4"), "_ansible_check_mode": True}
    with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
        gpu_facts.main()
    result = json.loads(capsys.readouterr().out)
    assert (ended.value.code, result["changed"]) == (0, False)
    assert {key: result[key] for key in facts("t4")} == facts("t4")


def test_documentation_matches_the_results():
    returned = yaml.safe_load(gpu_facts.RETURN)
    assert set(returned) == {*gpu.no_facts(), "container_toolkit", "held"}
    assert list(returned["gpus"]["contains"]) == list(facts("t4")["gpus"][0])
    assert returned["gpus"]["sample"] == facts("t4")["gpus"]

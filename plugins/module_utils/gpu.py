# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The GPUs of a host: plain data in and out.

They are read from C(nvidia-smi -q -x), whose XML every generation of the driver writes: a field that a driver does not
know is only missing, while C(--query-gpu) would refuse the whole query. It also has the minor numbers of the device
nodes. It lacks profiles and UUIDs of MIG slices, which C(nvidia-smi -L) has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict
from xml.etree import ElementTree

VENDOR = "NVIDIA"
MIB = 1024 * 1024

KERNEL_LOG = "journalctl --dmesg --grep NVRM"
LOST_GPU = f"a GPU no longer answers: see {KERNEL_LOG}, then reboot the host"
NO_GPU = f"the NVIDIA driver finds no GPU that it can use: see lspci -d 10de: and {KERNEL_LOG}"
PROBLEMS = {
    "Driver/library version mismatch": "the loaded NVIDIA driver and its libraries differ in version: reboot the host",
    "couldn't communicate with the NVIDIA driver": (
        "the NVIDIA driver is not loaded: install it for the running kernel, see dkms status, then reboot the host"
    ),
    "couldn't find libnvidia-ml": "the libraries of the NVIDIA driver are missing: install libnvidia-ml1",
    "Insufficient Permissions": "nvidia-smi may not open /dev/nvidia*: run it as root, with become",
    "No devices were found": NO_GPU,
    "Unable to determine the device handle": LOST_GPU,
    "GPU is lost": LOST_GPU,
}
NO_SMI = "nvidia-smi is missing, so memory and MIG slices are unknown: install nvidia-smi of the driver's version"

REPORT = re.compile(r"<nvidia_smi_log.*</nvidia_smi_log>", re.DOTALL)
LISTED_GPU = re.compile(r"GPU (\d+): .*\(UUID: ([^)]+)\)")
LISTED_SLICE = re.compile(r"MIG (\S+)\s+Device\s+(\d+): \(UUID: ([^)]+)\)")
DRIVER_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)")


class Slice(TypedDict):
    """A MIG slice of a GPU."""

    index: int  # within its GPU
    uuid: str
    profile: str  # such as 1g.5gb
    devices: list[str]  # those that it needs in addition to its GPU's


class Gpu(TypedDict):
    index: int  # number in nvidia-smi, in the order of the PCI bus
    uuid: str  # empty if the driver has not initialized the GPU yet
    model: str
    vendor: str
    memory_mb: int | None  # MiB; None if unknown
    minor: int | None  # N in /dev/nvidiaN
    mig_enabled: bool
    mig_slices: list[Slice]


class Facts(TypedDict):
    gpus: list[Gpu]
    driver_version: str
    cuda_version: str  # the newest that the driver supports
    problem: str  # why GPUs are missing or only partly known, with the remedy; otherwise empty


def no_facts(problem: str = "") -> Facts:
    return {"gpus": [], "driver_version": "", "cuda_version": "", "problem": problem}


def from_smi(report: str, listing: str, mig_minors: str = "") -> Facts:
    """Return facts from the output of C(nvidia-smi -q -x) and C(nvidia-smi -L), including errors.

    C(mig_minors) is the driver's list of the devices that MIG slices need, /proc/driver/nvidia-caps/mig-minors.
    """
    log = _log(report)
    if log is None:
        return no_facts(_problem(report) or f"nvidia-smi fails, run it on the host: {_first_line(report)}")
    # A lost GPU is reported by nvidia-smi outside the XML, which has the other GPUs.
    problem = _problem(REPORT.sub("", report))
    listed, minors = _listed(listing), _minors(mig_minors)
    gpus = [_gpu(element, position, listed, minors) for position, element in enumerate(log.iter("gpu"))]
    undivided = [str(gpu["index"]) for gpu in gpus if gpu["mig_enabled"] and not gpu["mig_slices"]]
    if undivided:
        problem = problem or (
            f"MIG is on without slices on GPU {', '.join(undivided)}: "
            "make some with nvidia-smi mig -cgi PROFILE -C, or turn it off with nvidia-smi -mig 0"
        )
    return {
        "gpus": sorted(gpus, key=lambda gpu: gpu["index"]),
        "driver_version": _text(log, "driver_version"),
        "cuda_version": _text(log, "cuda_version"),
        "problem": problem or ("" if gpus else NO_GPU),
    }


def from_proc(informations: Iterable[str], version: str) -> Facts:
    """Return facts from /proc/driver/nvidia of a loaded driver: each GPU's information, in the order of the bus."""
    gpus = [_gpu_of_information(index, information) for index, information in enumerate(informations)]
    return {
        "gpus": gpus,
        "driver_version": loaded_driver(version),
        "cuda_version": "",
        "problem": NO_SMI if gpus else "",
    }


def loaded_driver(version: str) -> str:
    """Return the driver's version in /proc/driver/nvidia/version."""
    found = DRIVER_VERSION.search(version)
    return found[1] if found else ""


def readings(report: str, listing: str) -> dict[int, dict[str, int | float]]:
    """Return what each GPU measures, by its index and the names of metrics, as far as it knows.

    The arguments are those of from_smi. Errors are those since the GPU was made: they outlast a restart of the host.
    """
    log, listed = _log(report), _listed(listing)
    read: dict[int, dict[str, int | float]] = {}
    for position, element in enumerate(() if log is None else log.iter("gpu")):
        used, total = (_number(_text(element, f"fb_memory_usage/{name}")) for name in ("used", "total"))
        busy, errors = _number(_text(element, "utilization/gpu_util")), _uncorrected(element)
        values = {
            "memory_used_bytes": used if used is None else used * MIB,
            "memory_total_bytes": total if total is None else total * MIB,
            "utilization_ratio": busy if busy is None else busy / 100,
            "temperature_celsius": _number(_text(element, "temperature/gpu_temp")),
            "ecc_uncorrected_errors_total": sum(errors) if errors else None,
        }
        as_listed = listed.get(_text(element, "uuid")) or _Listed(position)
        read[as_listed.index] = {name: value for name, value in values.items() if value is not None}
    return read


def _uncorrected(element: ElementTree.Element) -> list[int]:
    """Return counts of errors; drivers have named them double_bit, and then by the kind of memory."""
    named = [each for each in element.iterfind("ecc_errors/aggregate/*") if "uncorrectable" in each.tag]
    counts = [_number(each.text or "") for each in [*named, *element.iterfind("ecc_errors/aggregate/double_bit/total")]]
    return [count for count in counts if count is not None]


def _log(report: str) -> ElementTree.Element | None:
    found = REPORT.search(report)
    try:
        return ElementTree.fromstring(found[0] if found else "")
    except ElementTree.ParseError:
        return None


def _problem(output: str) -> str:
    return next((problem for sign, problem in PROBLEMS.items() if sign in output), "")


def _first_line(output: str) -> str:
    return next((line.strip() for line in output.splitlines() if line.strip()), "it writes nothing")


@dataclass
class _Listed:
    """A GPU in C(nvidia-smi -L), with profile and UUID of its slices."""

    index: int
    slices: dict[int, tuple[str, str]] = field(default_factory=dict)


def _listed(listing: str) -> dict[str, _Listed]:
    gpus: dict[str, _Listed] = {}
    for line in listing.splitlines():
        if gpu := LISTED_GPU.search(line):
            gpus[gpu[2]] = _Listed(int(gpu[1]))
        elif gpus and (part := LISTED_SLICE.search(line)):
            list(gpus.values())[-1].slices[int(part[2])] = part[1], part[3]
    return gpus


def _minors(mig_minors: str) -> dict[str, str]:
    """Return minor numbers of MIG's capabilities, by names such as gpu0/gi1/ci0/access."""
    return dict(line.split() for line in mig_minors.splitlines() if len(line.split()) == 2)


def _gpu(element: ElementTree.Element, position: int, listed: Mapping[str, _Listed], minors: Mapping[str, str]) -> Gpu:
    uuid, minor = _text(element, "uuid"), _number(_text(element, "minor_number"))
    as_listed = listed.get(uuid) or _Listed(position)
    slices: list[Slice] = []
    for part in element.iter("mig_device"):
        number = _number(_text(part, "index"))
        if number in as_listed.slices:
            profile, part_uuid = as_listed.slices[number]
            instance = f"gpu{minor}/gi{_text(part, 'gpu_instance_id')}"
            capabilities = (f"{instance}/access", f"{instance}/ci{_text(part, 'compute_instance_id')}/access")
            devices = [f"/dev/nvidia-caps/nvidia-cap{minors[name]}" for name in capabilities if name in minors]
            slices.append({"index": number, "uuid": part_uuid, "profile": profile, "devices": devices})
    return {
        "index": as_listed.index,
        "uuid": uuid,
        "model": _text(element, "product_name"),
        "vendor": VENDOR,
        "memory_mb": _number(_text(element, "fb_memory_usage/total")),
        "minor": minor,
        "mig_enabled": _text(element, "mig_mode/current_mig") == "Enabled",
        "mig_slices": slices,
    }


def _gpu_of_information(index: int, information: str) -> Gpu:
    lines = dict(line.split(":", 1) for line in information.splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in lines.items()}
    uuid = values.get("GPU UUID", "")
    return {
        "index": index,
        "uuid": "" if "?" in uuid else uuid,  # the driver reads it when a program opens the GPU
        "model": values.get("Model", ""),
        "vendor": VENDOR,
        "memory_mb": None,
        "minor": _number(values.get("Device Minor", "")),
        "mig_enabled": False,
        "mig_slices": [],
    }


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> int | None:
    """Return the number at the start of a value such as 11441 MiB; None for others, such as N/A."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else None

#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Gather the NVIDIA GPUs of a host
description:
  - Queries C(nvidia-smi), or if that is missing the loaded driver in C(/proc/driver/nvidia).
  - A host without usable GPUs is not an error; RV(problem) states the remedy.
  - Changes nothing.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  nvidia_smi:
    description: Path or name of C(nvidia-smi).
    type: str
    default: nvidia-smi
  environment_files:
    description: Pattern of files with the environment of programs that use GPUs, for RV(held).
    type: str
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Gather the GPUs
  mlfleet.stack.gpu_facts:
  register: gpu

- name: Fail if the GPUs cannot be used
  ansible.builtin.fail:
    msg: "{{ gpu.problem }}"
  when: gpu.problem != ''
"""

RETURN = r"""
gpus:
  description: The GPUs, in the order of the PCI bus; empty if none can be used.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: Number of the GPU in C(nvidia-smi).
      type: int
    uuid:
      description: UUID of the GPU; empty if unknown because no program has used the GPU yet.
      type: str
    model:
      description: Model of the GPU.
      type: str
    vendor:
      description: Always V(NVIDIA).
      type: str
    memory_mb:
      description: Memory in MiB; null if unknown.
      type: int
    minor:
      description: Minor number of its device, V(0) for C(/dev/nvidia0); null if there is none.
      type: int
    mig_enabled:
      description: Whether MIG divides the GPU, so that only its slices can be used.
      type: bool
    mig_slices:
      description: MIG slices, each with C(index), C(uuid), C(profile) and the additional C(devices) that it needs.
      type: list
      elements: dict
  sample:
    - index: 0
      uuid: GPU-d37e67a5-91dd-3774-a5cb-99096249601a
      model: Tesla T4
      vendor: NVIDIA
      memory_mb: 15360
      minor: 0
      mig_enabled: false
      mig_slices: []
driver_version:
  description: Version of the driver; empty when none is loaded.
  returned: always
  type: str
  sample: 535.129.03
cuda_version:
  description: Newest version of CUDA that the driver supports; empty if unknown.
  returned: always
  type: str
  sample: "12.2"
problem:
  description: Why GPUs cannot be used or are only partly known, and the remedy, in one line; otherwise empty.
  returned: always
  type: str
  sample: "the loaded NVIDIA driver and its libraries differ in version: reboot the host"
held:
  description: GPUs, by UUID or index, that each of O(environment_files) assigns to its program.
  returned: always
  type: dict
  sample: {"/etc/mlfleet/dioptra-worker-pytorch-gpu/1.env": ["GPU-d37e67a5-91dd-3774-a5cb-99096249601a"]}
container_toolkit:
  description: Version of the NVIDIA Container Toolkit, which containers need for GPUs; empty when it is not installed.
  returned: always
  type: str
  sample: 1.17.8
"""

import os
import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.gpu import (
    Facts,
    from_proc,
    from_smi,
    loaded_driver,
    no_facts,
)

DRIVER = Path("/proc/driver")
# Without persistence mode, each query initializes the GPU first, which takes seconds.
TIMEOUT_SECONDS = 120
VISIBLE_DEVICES = re.compile(r'^CUDA_VISIBLE_DEVICES="?([^"\n]+)"?$', re.MULTILINE)
TOOLKIT_COMMANDS = ("nvidia-ctk", "nvidia-container-cli")


def output(*words: str) -> str:
    """Return all output of a command, whether it fails or not."""
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.stdout


def content(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def facts(nvidia_smi: str | None, driver: Path) -> Facts:
    """Return what is known about the GPUs. C(driver) is where the loaded driver describes itself."""
    version = content(driver / "nvidia/version")
    if nvidia_smi is None:
        return from_proc(map(content, sorted(driver.glob("nvidia/gpus/*/information"))), version)
    try:
        told = from_smi(
            output(nvidia_smi, "-q", "-x"), output(nvidia_smi, "-L"), content(driver / "nvidia-caps/mig-minors")
        )
    except subprocess.TimeoutExpired:
        told = no_facts(f"nvidia-smi does not answer within {TIMEOUT_SECONDS} s: reboot the host")
    except OSError as error:
        told = no_facts(f"nvidia-smi cannot be run, reinstall it: {error}")
    told["driver_version"] = told["driver_version"] or loaded_driver(version)
    return told


def toolkit_version(text: str) -> str:
    """Extract the version from the output of a command of the toolkit."""
    found = re.search(r"version:? (\d\S*)", text)
    return found[1] if found else ""


def toolkit(commands: list[str]) -> str:
    """Return the toolkit's version, from the first command that prints it."""
    for command in commands:
        try:
            if version := toolkit_version(output(command, "--version")):
                return version
        except (OSError, subprocess.TimeoutExpired):
            continue
    return ""


def holders(pattern: str) -> dict[str, list[str]]:
    """Return the GPUs that each of these environment files assigns to its program."""
    found = {str(path): VISIBLE_DEVICES.search(content(path)) for path in sorted(Path("/").glob(pattern.lstrip("/")))}
    return {path: match[1].split(",") for path, match in found.items() if match}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
            "environment_files": {"type": "str"},
        },
        supports_check_mode=True,
    )
    found = facts(module.get_bin_path(module.params["nvidia_smi"]), DRIVER)
    held = holders(module.params["environment_files"]) if module.params["environment_files"] else {}
    commands = [path for path in map(module.get_bin_path, TOOLKIT_COMMANDS) if path]
    module.exit_json(changed=False, container_toolkit=toolkit(commands), held=held, **found)


if __name__ == "__main__":
    main()

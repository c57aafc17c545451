#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Build or pull a container image that is named by its content
description:
  - Provides an image on the host if it is missing. With O(registry) it is pulled from there, or else built and pushed
    there; otherwise it is built with Docker's BuildKit. An image without O(dockerfile) is a third-party image, which is
    pulled.
  - The tag of a built image should be a hash of its Dockerfile and files, so that a changed image has another name.
  - The Dockerfile finds the host's apt sources, preferences and keys in C(apt) of its context, which is not part of the
    tag.
  - Secrets can be mounted during the build, and are not stored in any layer. C(authorities) contains the certificates
    that the host trusts, C(environment) contains O(environment) as lines for a shell, C(apt-settings) is for
    C(APT_CONFIG), and C(apt-accounts) is the file of apt's accounts that it names.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  name:
    description: Name of the image with its tag or digest, and with its registry.
    type: str
    required: true
  dockerfile:
    description: Text of the Dockerfile.
    type: str
    default: ""
  files:
    description: Text of each file in the build context, by its name there.
    type: dict
    default: {}
  programs:
    description: Path on the controller of each additional file in the build context, by its name there. Sent when the
      image is built.
    type: dict
    default: {}
  base:
    description: Name of the base image, which is pulled if it is missing.
    type: str
    default: ""
  base_archive:
    description:
      - Archive on the controller with the file system of O(base), as C(docker export) and C(mmdebstrap) write it.
      - Used instead of pulling if O(base) is missing, for hosts that cannot reach a registry.
    type: path
  environment:
    description: Environment variables of the build, such as a package index. Never shown, because they may contain a
      password.
    type: dict
    default: {}
  registry:
    description:
      - Registry to share images with O(dockerfile); O(name) begins with it.
      - O(registry_username) is an account of this registry, also for images without O(dockerfile).
    type: str
    default: ""
  registry_username:
    description: Account of O(registry). The host stores its password only while it is used.
    type: str
    default: ""
  registry_password:
    description: Its password.
    type: str
    default: ""
  missing:
    description:
      - What to do about an image with O(dockerfile) that O(registry) does not have. V(build) builds and pushes it,
        V(tell) returns RV(must_build), V(fail) fails.
    type: str
    choices: [build, tell, fail]
    default: build
  push_again:
    description: Whether to push an image again that the registry has lost.
    type: bool
    default: false
  revision:
    description: Any text; a new value pulls the base and installs all packages again.
    type: str
    default: ""
  prune:
    description:
      - Whether to remove previous images of the same program, except those that a container uses. An image that is
        replaced in a run is removed in the next one.
    type: bool
    default: false
  reference_file:
    description:
      - File on the host with the name to run the image by, with its digest if it is in a registry. It is written when
        the image exists and has passed O(trial).
    type: path
  state:
    description: Whether to provide the image, or only to report what is missing; set by the action.
    type: str
    choices: [found, present]
    default: present
extends_documentation_fragment: mlfleet.stack.trial
attributes:
  check_mode:
    description: Predicts whether the host would get the image, also on a host without Docker.
    support: full
  diff_mode:
    description: Shows the added image.
    support: full
"""

EXAMPLES = r"""
- name: Build the image of Redis
  mlfleet.stack.container_image:
    name: "mlfleet/redis:{{ dockerfile | hash('sha256') | truncate(16, true, '') }}"
    dockerfile: "{{ dockerfile }}"
    base: debian:12-slim
    reference_file: /opt/mlfleet/images/redis
  vars:
    dockerfile: |
      FROM debian:12-slim
      RUN apt-get update && apt-get install --yes redis-server
"""

RETURN = r"""
must_build:
  description: Whether another host must build the image and push it to the registry first.
  returned: success
  type: bool
renamed:
  description: Whether O(reference_file) names another image than before, or would in check mode.
  returned: success
  type: bool
base_is_there:
  description: Whether the base image existed before.
  returned: success
  type: bool
"""

import base64
import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils import trials
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import WORK_SECONDS, run
from ansible_collections.mlfleet.stack.plugins.module_utils.containers import (
    IMAGE_LABEL,
    IMAGE_OPTIONS,
    UNKNOWN,
    DockerError,
    digest,
    docker,
    find_image,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.files import FilesError, Item, install
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
APT = Path("/etc/apt")
APT_PATHS = {  # as they are named in the context
    "sources.list.d": APT / "sources.list.d",
    "preferences.d": APT / "preferences.d",
    "keyrings": APT / "keyrings",
    "trusted.gpg.d": APT / "trusted.gpg.d",
    "shared-keyrings": Path("/usr/share/keyrings"),
}
ACCOUNTS = ".docker/config.json"  # in the caller's home


def reference(options: dict) -> str:
    """Return the name to run the image by, or nothing if it is not yet complete."""
    found = find_image(options["name"])
    if not found:
        return ""
    known = digest(found, options["name"])
    return known if is_shared(options) else known or options["name"]


def is_shared(options: dict) -> bool:
    return bool(options["registry"] and options["dockerfile"])


def former(options: dict) -> list[str]:
    """Return images of the same program that no container uses."""
    if not options["prune"]:
        return []
    program = options["name"].rpartition(":")[0]
    listed = docker("image", "ls", "--filter", f"label={IMAGE_LABEL}={program}", "--format", "{{.Repository}}:{{.Tag}}")
    names = [name for name in listed.split() if name != options["name"] and not name.endswith(":<none>")]
    return [name for name in names if not docker("ps", "--all", "--quiet", "--filter", f"ancestor={name}").strip()]


def make_context(directory: Path, options: dict) -> None:
    """Write everything that the Dockerfile can copy, or mount during the build."""
    (directory / "Dockerfile").write_text(options["dockerfile"])
    for name, text in options["files"].items():
        (directory / name).write_text(text)
    for name, path in options["programs"].items():
        shutil.copy2(path, directory / name)
    for name, path in APT_PATHS.items():
        if path.is_dir():
            shutil.copytree(path, directory / "apt" / name)
        else:
            (directory / "apt" / name).mkdir(parents=True)
    sources = APT / "sources.list"
    (directory / "apt/sources.list").write_text(sources.read_text() if sources.exists() else "")


def apt_accounts() -> str:
    files = [APT / "auth.conf", *sorted((APT / "auth.conf.d").glob("*.conf"))]
    return "\n".join(file.read_text() for file in files if file.exists())


def apt_settings() -> str:
    """Return how the host reaches its sources, such as by a proxy; hooks are left out, as they lack their programs."""
    lines = run(["apt-config", "dump"], check=True).stdout.splitlines()
    return "\n".join(
        [
            *(line for line in lines if line.startswith("Acquire::")),
            'Acquire::https::CaInfo "/run/secrets/authorities";',
            'Dir::Etc::netrc "/run/secrets/apt-accounts";\n',
        ]
    )


def build(scratch: Path, options: dict, environment: dict[str, str]) -> None:
    if options["base_archive"] and not find_image(options["base"]):
        docker("import", options["base_archive"], options["base"])
    context = scratch / "context"
    context.mkdir()
    make_context(context, options)
    lines = [f"export {name}={shlex.quote(str(value))}\n" for name, value in options["environment"].items()]
    secrets = {"environment": "".join(lines), "apt-settings": apt_settings(), "apt-accounts": apt_accounts()}
    for name, text in secrets.items():
        (scratch / name).touch(0o600)
        (scratch / name).write_text(text)
    docker(
        "build",
        # A resolver on the host's loopback is unreachable from a separate network of the build.
        "--network=host",
        "--progress=plain",
        *(["--pull"] if options["revision"] and not options["base_archive"] else []),
        f"--secret=id=authorities,src={AUTHORITIES}",
        *(f"--secret=id={name},src={scratch / name}" for name in secrets),
        f"--label={IMAGE_LABEL}={options['name'].rpartition(':')[0]}",
        f"--tag={options['name']}",
        str(context),
        environment=environment,
    )


def signed_in(scratch: Path, options: dict) -> dict[str, str]:
    """Return the environment of a command that uses the registry, with the caller's accounts and the given one."""
    if not options["registry_username"]:
        return {}
    accounts = Path.home() / ACCOUNTS
    known = json.loads(accounts.read_text()) if accounts.exists() else {}
    account = f"{options['registry_username']}:{options['registry_password']}".encode()
    known.setdefault("auths", {})[options["registry"].partition("/")[0]] = {"auth": base64.b64encode(account).decode()}
    file = scratch / "config.json"
    file.touch(0o600)
    file.write_text(json.dumps(known))
    return {"DOCKER_CONFIG": str(scratch)}


def pull(options: dict, environment: dict[str, str]) -> bool:
    """Pull the image, and return whether a registry has it."""
    try:
        docker("pull", "--quiet", options["name"], environment=environment)
    except DockerError as error:
        if options["dockerfile"] and any(sign in str(error) for sign in UNKNOWN):
            return False
        raise
    return True


def have(options: dict, scratch: Path) -> bool:
    """Bring the image here, and to the registry if it is shared; return whether that was possible."""
    environment = signed_in(scratch, options)
    may_build = options["missing"] == "build"
    is_here = bool(find_image(options["name"])) and may_build
    if not is_here and (is_shared(options) or not options["dockerfile"]) and pull(options, environment):
        return True
    if not may_build:
        return False
    if not is_here:
        build(scratch, options, environment)
    if is_shared(options):
        docker("push", options["name"], environment=environment)
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **IMAGE_OPTIONS,
            "state": {"type": "str", "choices": ["found", "present"], "default": "present"},
        },
        supports_check_mode=True,
    )
    options = module.params
    is_asked = options["state"] == "found" or module.check_mode
    must_build = False
    if not is_asked:
        # Hosts for which one host builds wait for each other, even over separate connections.
        hold(module, f"container_image {options['name']}", WORK_SECONDS)
    try:
        base_is_there = bool(options["base"]) and bool(find_image(options["base"]))
        before = found = "" if options["push_again"] else reference(options)
        if not found and not is_asked:
            with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
                must_build = not have(options, Path(scratch))
            found = reference(options)
            if must_build and options["missing"] == "fail":
                raise DockerError("its registry does not have it")
        surplus = former(options) if found else []
        written: dict[str, Any] = {"changed": False, "diff": []}
        if options["reference_file"] and not must_build:
            # In check mode too, so that a container of a previous image is reported as changing.
            item = Item(options["reference_file"], content=f"{found or options['name']}\n")
            if options["trial"] and not is_asked and install([item], check_mode=True)["changed"]:
                trials.hold_in_image(found, options["trial"])
            written = install([item], check_mode=is_asked)
        if surplus and not is_asked:
            docker("image", "rm", *surplus)
    except trials.RefusedError as error:
        module.fail_json(msg=f"Image {options['name']}: {error}; the former one stays in use")
    except (DockerError, FilesError, OSError) as error:
        module.fail_json(msg=f"Image {options['name']}: {error}")
    image = {"before": "".join(f"{name}\n" for name in surplus), "after": "" if before else f"{options['name']}\n"}
    diff = [{**image, "after_header": "container images"}] if any(image.values()) else []
    module.exit_json(
        changed=not before or bool(surplus) or written["changed"],
        must_build=must_build,
        renamed=written["changed"],
        base_is_there=base_is_there,
        diff=[*diff, *written["diff"]],
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: frontend_build
short_description: Build a web application in a cache
description:
  - Runs on the host that it is delegated to, usually the controller, and creates one archive of the application's
    files.
  - A source tree is built with C(npm ci) and O(build_command), in a copy. A finished build is used as it is.
  - The cached archive is kept as long as its inputs are the same, which are the source's contents, commit or checksum,
    and the build's options.
  - Text files are also stored compressed, for servers that can send them, such as nginx with C(gzip_static).
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - For a source tree Node 20 or newer with npm; for a repository also C(git).
options:
  source:
    description:
      - Source of the application.
      - A directory with a C(package.json) is a source tree; any other directory is a finished build.
      - A file, or a URL that begins with C(http), is an archive of a finished build, a tar or zip.
      - A repository's URL begins with C(git+), such as V(git+https://github.com/usnistgov/dioptra.git).
    type: str
    required: true
  checksum:
    description: SHA-256 of an archive; required for a URL.
    type: str
    default: ""
  ref:
    description: Tag, branch or commit of a repository.
    type: str
    default: ""
  directory:
    description: Directory of the source tree in a repository.
    type: str
    default: .
  build_command:
    description: Shell command that builds a source tree, run in its directory.
    type: str
    default: npm run build-only
  output_directory:
    description: Directory that the build creates in the source tree.
    type: str
    default: dist
  node:
    description: Node, by name or path, with C(npm) in the same directory.
    type: str
    default: node
  cache:
    description: Directory of the archive, used only for this source and these options.
    type: path
    required: true
  may_build:
    description: Whether it may access the source; otherwise the archive must be in the cache.
    type: bool
    default: true
  version:
    description: Release of the application, if its source does not state it.
    type: str
    default: ""
  expected_version:
    description: Expected release of the application; the module warns of another one.
    type: str
    default: ""
attributes:
  check_mode:
    description: Not supported, since a cache is not part of any host. Run it with C(check_mode=false).
    support: none
  diff_mode:
    description: An archive has no diff.
    support: none
seealso:
  - module: mlfleet.stack.file_tree
"""

EXAMPLES = r"""
- name: Build the front end on the controller
  mlfleet.stack.frontend_build:
    source: git+https://github.com/usnistgov/dioptra.git
    ref: main
    directory: src/frontend
    cache: /root/.cache/mlfleet/builds/prod/frontend
  delegate_to: localhost
  run_once: true
  check_mode: false
  register: built
"""

RETURN = r"""
archive:
  description: Path of the archive, a tar.gz.
  returned: success
  type: str
  sample: /root/.cache/mlfleet/builds/prod/frontend/frontend.tar.gz
version:
  description: Release of the application, empty if unknown.
  returned: success
  type: str
  sample: 1.2.2
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url
from ansible_collections.mlfleet.stack.plugins.module_utils.archives import ArchiveError
from ansible_collections.mlfleet.stack.plugins.module_utils.frontend import BuildError, Source, provide
from ansible_collections.mlfleet.stack.plugins.module_utils.git import GitError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "checksum": {"type": "str", "default": ""},
            "ref": {"type": "str", "default": ""},
            "directory": {"type": "str", "default": "."},
            "build_command": {"type": "str", "default": "npm run build-only"},
            "output_directory": {"type": "str", "default": "dist"},
            "node": {"type": "str", "default": "node"},
            "cache": {"type": "path", "required": True},
            "may_build": {"type": "bool", "default": True},
            "version": {"type": "str", "default": ""},
            "expected_version": {"type": "str", "default": ""},
        }
    )

    def download(url: str, path: Path) -> None:
        response, info = fetch_url(module, url, timeout=60)
        if info["status"] != 200:
            raise BuildError(f"{url} cannot be fetched: {info['msg']}")
        with path.open("wb") as file:
            shutil.copyfileobj(response, file)

    options = dict(module.params)
    cache, may_build = Path(options.pop("cache")), options.pop("may_build")
    version, expected = options.pop("version"), options.pop("expected_version")
    try:
        result = provide(Source(**options), cache, download, may_build)
    except (ArchiveError, BuildError, GitError) as error:
        module.fail_json(msg=str(error), stdout=getattr(error, "output", ""))
    version = version or result["version"]
    if version and expected and version != expected:
        module.warn(f"the front end is of release {version} and the REST API of {expected}: take both from the same")
    module.exit_json(**result | {"version": version})


if __name__ == "__main__":
    main()

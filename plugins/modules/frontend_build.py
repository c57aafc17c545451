#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: frontend_build
short_description: Build a web application in a cache
description:
  - Runs where it is delegated to, usually on the controller, and makes one archive of the application's files.
  - A source tree is built with C(npm ci) and O(build_command), in a copy. A finished build is taken as it is.
  - What is in the cache stays as long as the inputs are the same, which are the source's contents, commit or checksum,
    and the build's options.
  - Texts are kept compressed too, for servers that send them so, such as nginx with C(gzip_static).
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - For a source tree Node 20 or newer with npm; for a repository also C(git).
options:
  source:
    description:
      - Where the application is from.
      - A directory with a C(package.json) is a source tree; any other directory holds a finished build.
      - A file, or a URL that begins with C(http), is an archive of a finished build, a tar or zip.
      - A repository's URL begins with C(git+), such as V(git+https://github.com/usnistgov/dioptra.git).
    type: str
    required: true
  checksum:
    description: SHA-256 of an archive; a URL needs one.
    type: str
    default: ""
  ref:
    description: Tag, branch or commit of a repository.
    type: str
    default: ""
  directory:
    description: Where the source tree is in a repository.
    type: str
    default: .
  build_command:
    description: Command for the shell that builds a source tree, in its directory.
    type: str
    default: npm run build-only
  output_directory:
    description: Directory that the build makes in the source tree.
    type: str
    default: dist
  node:
    description: Program of Node, by name or path, whose directory has C(npm) too.
    type: str
    default: node
  cache:
    description: Directory of the archive, for this source and these options alone.
    type: path
    required: true
  may_build:
    description: Whether it may look at the source; else the archive has to be in the cache.
    type: bool
    default: true
  version:
    description: Release that the application is from, where its source does not say so.
    type: str
    default: ""
  expected_version:
    description: Release that the application should be from; of another one it warns.
    type: str
    default: ""
attributes:
  check_mode:
    description: Not supported, since a cache is part of no host. Run it with C(check_mode=false).
    support: none
  diff_mode:
    description: An archive has none.
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
  description: Release that the application is from, empty when nobody says so.
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

"""The state that mlfleet's site.yml keeps on a host, as a pyinfra deploy; `make bench` reads it from that host.

It checks packages, users, directories, files, services, PostgreSQL's roles and databases, and the packages of
virtual environments, each by pyinfra's own operation. It leaves out what pyinfra has no operation for, and what mlfleet
checks in each run:
- MinIO's users, policies and buckets; accounts in MLflow and Dioptra; Dioptra's queues;
- users and settings that Redis has in memory; passwords of PostgreSQL's roles (pyinfra would set them in each run);
- TLS handshakes that verify each service's certificate, and when certificates expire;
- that services answer, and have started since their files changed;
- undeclared objects: files in mlfleet's directories, roles' attributes, packages in virtual environments;
- the inventory, the system and the Python of the host.
"""

from __future__ import annotations

import json
from pathlib import Path

from pyinfra import host
from pyinfra.operations import apt, files, pip, postgres, server, systemd

state = json.loads(Path(host.data.state).read_text())

apt.packages(packages=state["packages"])
for user in state["users"]:
    server.user(**user, system=True, ensure_home=False)
for directory in state["directories"]:
    files.directory(**directory)
for file in state["files"]:
    files.put(**file, create_remote_dir=False)
for path, packages in state["venvs"].items():
    # These environments have no pip. uv, which mlfleet uses too, is faster; it has no `freeze --all`.
    uv = '[ "$1" != freeze ] || set -- freeze; exec /opt/mlfleet/uv/bin/uv pip "$@" --python'
    pip.packages(packages=packages, pip=f"sh -c '{uv} {path}/bin/python' pip")
for service in state["services"]:
    systemd.service(service=service, running=True, enabled=True)
for role in state["roles"]:
    postgres.role(role=role, _sudo_user="postgres")
for database, owner in state["databases"].items():
    postgres.database(database=database, owner=owner, _sudo_user="postgres")

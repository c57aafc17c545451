"""The host on which runs are timed: how to reach it, its CPU time, and its state."""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

MADE_HERE = "grep --files-with-matches 'Made by mlfleet' /etc/systemd/system/*.service"
# Files that site.yml creates. Names with a dot are created by services themselves.
PATHS = f"""
find /etc/mlfleet /etc/redis/redis.conf /etc/redis/users.acl /etc/redis/tls /usr/local/share/ca-certificates/mlfleet \
    /etc/postgresql/*/main/postgresql.conf /etc/postgresql/*/main/pg_hba.conf /etc/postgresql/*/main/conf.d \
    /etc/postgresql/*/main/tls /etc/nginx/nginx.conf /etc/nginx/mlfleet*
find /opt/mlfleet /var/cache/mlfleet /etc/redis /etc/postgresql/* /etc/postgresql/*/main -maxdepth 0
find /opt/mlfleet -maxdepth 1 -name minio
find /var/lib/mlfleet -maxdepth 2 -type d ! -name '.*'
{MADE_HERE}
"""
SERVICES = f"""
systemctl list-units --plain --no-legend --type service --state running \
    'postgresql@*' redis-server.service nginx.service $({MADE_HERE} | sed 's|.*/||; s|@|@*|') |
    cut --delimiter ' ' --fields 1
"""
USERS = f"{MADE_HERE} | xargs sed --quiet 's/^User=//p' | sort --unique | xargs getent passwd"
ROLES = "SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|postgres$)'"
DATABASES = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname !~ '^(template|postgres$)'"
# The CPU time of a lab host on its machine, in either version of cgroups, or of a whole real host.
CPU = r"""
group=$(sed -n 's/^[0-9]*:\([^:]*,\)*cpuacct\(,[^:]*\)*://p' /proc/1/cgroup)
if [ "$group" ]; then
    cat "/sys/fs/cgroup/cpuacct${group%/init.scope}/cpuacct.usage"
else
    group=$(sed -n 's/^0:://p' /proc/1/cgroup)
    sed -n 's/^usage_usec \(.*\)/\1000/p' "/sys/fs/cgroup${group%/init.scope}/cpu.stat"
fi
"""


def children() -> float:
    """Return CPU seconds of the processes that this one has started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Target:
    """A host of an inventory, by default the only one, over its own SSH connection."""

    def __init__(self, inventory: str, private: Path, name: str | None = None) -> None:
        listed = subprocess.run(
            ["ansible-inventory", "-i", inventory, "--list"], capture_output=True, text=True, check=True
        )
        names = json.loads(listed.stdout)["_meta"]["hostvars"]
        if not name and len(names) != 1:
            raise SystemExit(f"{inventory} has {len(names)} hosts; a comparison needs one that runs everything.")
        self.name = name or next(iter(names))
        self.variables = names[self.name]
        self.private = private
        variables = self.variables
        self.address = variables.get("ansible_host", self.name)
        options = shlex.split(variables.get("ansible_ssh_common_args", ""))
        named = {"-i": "ansible_ssh_private_key_file", "-p": "ansible_port", "-l": "ansible_user"}
        for option, variable in named.items():
            options += [option, str(variables[variable])] if variable in variables else []
        self.ssh = ["ssh", *options, "-o", f"ControlPath={private / f'ssh-{self.name}'}", "-o", "ControlMaster=auto"]
        self.ssh += ["-o", "ControlPersist=yes", self.address]

    def close(self) -> None:
        subprocess.run([*self.ssh[:-1], "-O", "exit", self.address], capture_output=True, check=False)

    def ask(self, script: str, become: str = "") -> str:
        words = [*self.ssh, f"sudo --user={become} sh" if become else "sh"]
        return subprocess.run(words, input=script, capture_output=True, text=True, check=True).stdout

    def cpu_seconds(self) -> float:
        return int(self.ask(CPU)) / 1e9

    def pyinfra_options(self) -> list[str]:
        """Return pyinfra's command-line options to sign in like Ansible."""
        shown = subprocess.run([*self.ssh[:1], "-G", *self.ssh[1:]], capture_output=True, text=True, check=True).stdout
        ssh = dict(line.split(" ", 1) for line in reversed(shown.splitlines()))
        words = [f"--ssh-user={ssh['user']}", f"--ssh-port={ssh['port']}", f"--ssh-key={ssh['identityfile']}"]
        return [*words, "--data", f"ssh_known_hosts_file={ssh['userknownhostsfile'].split()[0]}"]

    def state(self) -> dict[str, Any]:
        """Return the state for the pyinfra deploy, with its files in the private directory."""
        users = [line.split(":") for line in self.ask(USERS).splitlines()]
        return {
            **self._paths(),
            "packages": self.ask("apt-mark showmanual").split(),
            "users": [{"user": user[0], "home": user[5], "shell": user[6]} for user in users],
            "services": self.ask(SERVICES).split(),
            "roles": self._query(ROLES),
            "databases": dict(row.split("|") for row in self._query(DATABASES)),
            "venvs": {path: self._pinned(path) for path in self.ask("find /opt/mlfleet -maxdepth 1 -type l").split()},
        }

    def _query(self, statement: str) -> list[str]:
        return self.ask(f'cd /; psql --tuples-only --no-align --command "{statement}"', become="postgres").split()

    def _pinned(self, venv: str) -> list[str]:
        """Return packages with their pins, in the spelling that pyinfra compares."""
        constraints = Path("constraints", Path(venv).name.replace("-", "_") + ".txt").read_text()
        pins = {line.partition(" ")[0] for line in constraints.splitlines()}
        installed = self.ask(f"/opt/mlfleet/uv/bin/uv pip freeze --python {venv}/bin/python").splitlines()
        parts = [(pin, *pin.partition("==")) for pin in installed]
        return [pin for pin, name, equals, version in parts if canonicalize_name(name) + equals + version in pins]

    def _paths(self) -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = {"directories": [], "files": []}
        pack = f"({PATHS}) 2>/dev/null | tar --create --absolute-names --no-recursion --files-from=-"
        words = [*self.ssh, f"sudo sh -c {shlex.quote(pack)}"]
        with (
            subprocess.Popen(words, stdout=subprocess.PIPE) as sending,
            tarfile.open(fileobj=sending.stdout, mode="r|") as archive,
        ):
            for number, member in enumerate(archive):
                owned = {"user": member.uname, "group": member.gname}
                if member.isdir():
                    found["directories"].append({"path": member.name, **owned, "mode": f"{member.mode:o}"})
                elif content := archive.extractfile(member):
                    copy = self.private / f"file-{number}"
                    copy.write_bytes(content.read())
                    found["files"].append({"src": str(copy), "dest": member.name, **owned, "mode": f"{member.mode:o}"})
        return found

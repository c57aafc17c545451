"""Lab hosts: containers that run systemd and sshd, so that Ansible finds the same as in production."""

from __future__ import annotations

import fcntl
import io
import ipaddress
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker
from docker.errors import APIError, DockerException
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import EndpointConfig, IPAMConfig, IPAMPool, Mount

from mlfleet.lab.image import (
    RELEASES,
    REPOSITORY,
    archive_path,
    debian_sources,
    ensure_archive,
    ensure_image,
    image_tag,
)
from mlfleet.lab.inventory import LabInventory, controller_index_url, lab_variables, public_line
from mlfleet.project import MlfleetError

PAGE_PORTS = "30000-39999"  # of nginx's pages; Linux gives ports from 32768 to outgoing connections
LAB = "mlfleet.lab"
INVENTORY = "mlfleet.inventory"
HOST = "mlfleet.host"
ADDRESS = "mlfleet.address"
DEBIAN = "mlfleet.debian"
CACHES = {"mlfleet-cache-apt": "/var/cache/mlfleet/apt", "mlfleet-cache-uv": "/var/cache/mlfleet/uv"}
DOCKER_DIRECTORY = "/var/lib/docker"
REMOVED = ".removed"  # ends the name of a container whose files are being deleted
BOOT_SECONDS = 180
LOG_LINES = 20

Report = Callable[[str], None]


@dataclass(frozen=True)
class HostStatus:
    """The row of one host in `mlfleet lab status`; *failed_units* is None if systemd does not answer."""

    name: str
    debian: str
    address: str
    state: str
    failed_units: int | None


@contextmanager
def docker_client() -> Iterator[docker.DockerClient]:
    """Yield a client of the local Docker engine and turn its errors into one line.

    Raises:
        MlfleetError: the engine does not answer or refuses.
    """
    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except DockerException as error:
        raise MlfleetError(
            "no Docker engine answers: run `apt-get install mmdebstrap docker.io`, start it, and be root or in group "
            "docker."
        ) from error
    try:
        yield client
    except APIError as error:
        raise MlfleetError(f"Docker refuses: {error.explanation or error}") from error
    finally:
        client.close()


def archives() -> Path:
    """Return the directory of the archives from which hosts with an engine build their images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlfleet/lab"


@contextmanager
def one_lab_at_a_time() -> Iterator[None]:
    """Lock what labs share: two created at once would build the same image, and take the same address range."""
    path = Path(tempfile.gettempdir(), f"mlfleet-lab-{os.getuid()}.lock")
    # Anyone may have put something there, so do not follow a link or wait for a pipe.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)) as lock:
        if os.fstat(lock.fileno()).st_uid != os.getuid():
            raise MlfleetError(f"{path} belongs to another user: remove it.")
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Releases:
    """The Debian release of each host."""

    usual: int = 12
    others: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, words: Iterable[str]) -> Releases:
        """Read `12`, or `HOST=13` for one host.

        Raises:
            MlfleetError: a word names no release that lab hosts can have.
        """
        found = dict(word.rpartition("=")[::2] for word in words)
        for release in found.values():
            if release not in map(str, RELEASES):
                raise MlfleetError(f"Debian {release} is not available: choose {' or '.join(map(str, RELEASES))}.")
        releases = {host: int(release) for host, release in found.items()}
        return cls(releases.pop("", cls.usual), releases)

    def of(self, host: str) -> int:
        return self.others.get(host, self.usual)


class Lab:
    """The containers, the network and the inventory directory of one lab."""

    def __init__(self, client: docker.DockerClient, inventory: Path, report: Report) -> None:
        self.client = client
        # Links are followed, so that every way to name the directory means the same lab.
        self.inventory = LabInventory(inventory.resolve())
        self.report = report
        self.prefix = f"mlfleet-{self.inventory.name}"

    def up(self, like: Path, debian: Releases, docker_inside: bool, ca_directory: Path) -> bool:
        """Create and start every host of the lab's inventory, and wait until it answers.

        Args:
            like: the inventory to imitate; read only when the lab is new.
            debian: the releases (12 or 13) of hosts to create.
            docker_inside: whether those hosts can run their own Docker engine.
            ca_directory: this controller's directory with authorities (`*.crt`) that those hosts must also trust.

        Returns:
            Whether anything changed.

        Raises:
            MlfleetError: the inventory is unusable, the image cannot be built, or a host does not answer in time.
        """
        containers = self._containers()
        if copied := self.inventory.create(like):
            self.report(f"inventory {self.inventory.path} copied from {like}")
        hosts = self.inventory.hosts()
        certificates = {path.name: path.read_bytes() for path in sorted(ca_directory.glob("*.crt"))}

        for name, container in list(containers.items()):
            # An interrupted run left it without its files, or its key was removed with the former directory.
            if container.status == "created" or copied:
                container.remove(v=True, force=True)
                del containers[name]
        created = [name for name in hosts if name not in containers]
        if created:
            sources = {release: debian_sources(release) for release in sorted(set(map(debian.of, created)))}
            with one_lab_at_a_time():
                images = {
                    release: ensure_image(self.client, release, text, self.report) for release, text in sources.items()
                }
                network = self._network()
            files = {
                "home/ops/.ssh/authorized_keys": self.inventory.create_key().encode() + b"\n",
                **{f"usr/local/share/ca-certificates/{name}": content for name, content in certificates.items()},
            }
            for name in created:
                release = debian.of(name)
                containers[name] = self._create(name, images[release], release, network, containers, docker_inside)
                unique = {
                    "etc/machine-id": f"{uuid.uuid4().hex}\n".encode(),
                    "etc/hostname": f"{name}\n".encode(),
                    "etc/apt/sources.list.d/debian.sources": sources[release].encode(),
                }
                containers[name].put_archive("/", _tar(files | unique))

        stopped = [name for name in hosts if containers[name].status != "running"]
        for name in stopped:
            containers[name].start()
            self.report(f"host {name} {'created' if name in created else 'started'}")
        addresses = {name: containers[name].labels[ADDRESS] for name in hosts}
        rekeyed = self._wait({name: containers[name] for name in hosts})
        archive = self._archive(containers.values())
        written = [
            self.inventory.write_variables(lab_variables(bool(certificates), controller_index_url(), archive)),
            self.inventory.write_overlay(addresses),  # last, because with it the lab counts as complete
        ]
        return copied or bool(stopped) or rekeyed or any(written)

    def _archive(self, containers: Iterable[Container]) -> str | None:
        """Return the archive from which hosts with an engine build their images, as a path with each host's release."""
        releases = {
            int(each.labels[DEBIAN])
            for each in containers
            if any(mount["Destination"] == DOCKER_DIRECTORY for mount in each.attrs["Mounts"])
        }
        if not releases:
            return None
        with one_lab_at_a_time():
            for release in releases:
                ensure_archive(self.client, image_tag(release), archive_path(archives(), release), self.report)
        return str(archive_path(archives(), "{{ ansible_facts.distribution_major_version }}"))

    def down(self, caches: bool) -> bool:
        """Remove the lab's containers, its network and, last, its directory; with *caches* also what labs share.

        The files of the containers are deleted in the background, which takes the disk half a minute each.

        Returns:
            Whether there was anything to remove.

        Raises:
            MlfleetError: the lab of this name belongs to another directory, or another lab still uses a cache.
        """
        containers = self._containers()
        networks = self.client.networks.list(filters={"label": f"{LAB}={self.inventory.name}"})
        for name, container in containers.items():
            self._end(container)
            self.report(f"host {name} removed")
        self._delete_files(wait=caches)
        for network in networks:
            network.remove()
        present = self.inventory.marker.exists()
        if present:
            self.inventory.remove()
            self.report(f"inventory {self.inventory.path} removed")
        return any([containers, networks, present, caches and self._remove_caches()])

    @staticmethod
    def _end(container: Container) -> None:
        """Stop a container at once, and free its name."""
        if container.status in ("running", "paused"):
            with suppress(APIError):  # it has just ended by itself
                container.kill()
            container.wait()
        container.rename(f"{container.name}.{container.short_id}{REMOVED}")

    def _delete_files(self, wait: bool) -> None:
        """Delete the files of removed containers, also of other labs whose deletion was interrupted."""
        removed = [str(each.id) for each in self._all_containers(LAB) if _is_removed(each)]
        if removed:
            words = ["docker", "rm", "--force", "--volumes", *removed]
            nothing = subprocess.DEVNULL
            deletion = subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
            if wait:
                deletion.wait()

    def status(self) -> list[HostStatus]:
        """Return the state of each host that has a container, by name."""
        return [
            HostStatus(
                name,
                container.labels[DEBIAN],
                container.labels[ADDRESS],
                container.status,
                _failed_units(container) if container.status == "running" else None,
            )
            for name, container in sorted(self._containers().items())
        ]

    def _all_containers(self, label: str) -> list[Container]:
        # One that has just been deleted is left out.
        return self.client.containers.list(all=True, filters={"label": label}, ignore_removed=True)

    def _containers(self) -> dict[str, Container]:
        found = [
            container
            for container in self._all_containers(f"{LAB}={self.inventory.name}")
            if not _is_removed(container)
        ]
        for container in found:
            if (owner := container.labels[INVENTORY]) != str(self.inventory.path):
                raise MlfleetError(
                    f"lab {self.inventory.name} belongs to {owner}: run `mlfleet lab down {owner}`, or name this one "
                    "differently."
                )
        return {container.labels[HOST]: container for container in found}

    def _network(self) -> Network:
        if found := self.client.networks.list(names=[f"^{self.prefix}$"]):
            return found[0]
        # Only a network with a stated range gives fixed addresses. Docker knows which ranges are free; ask it for one.
        labels = {LAB: self.inventory.name}
        probe = self.client.networks.create(f"{self.prefix}.probe", labels=labels)
        try:
            probe.reload()
            subnet = probe.attrs["IPAM"]["Config"][0]["Subnet"]
        finally:
            probe.remove()
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        network = self.client.networks.create(self.prefix, ipam=pool, labels=labels)
        network.reload()
        return network

    def _create(
        self,
        name: str,
        image: str,
        debian: int,
        network: Network,
        others: dict[str, Container],
        docker_inside: bool,
    ) -> Container:
        address = free_address(
            network.attrs["IPAM"]["Config"][0]["Subnet"], {other.labels[ADDRESS] for other in others.values()}
        )
        command = ["/sbin/init"]
        if debian >= 13 and self.client.info().get("CgroupVersion") == "1":
            command.append("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
        mounts = [Mount("/sys/fs/cgroup", "/sys/fs/cgroup", type="bind")]
        mounts += [Mount(target, volume) for volume, target in CACHES.items()]
        if docker_inside:
            mounts.append(Mount(DOCKER_DIRECTORY, None))
        return self.client.containers.create(
            image,
            command,
            name=f"{self.prefix}-{name}",
            hostname=name,
            labels={
                LAB: self.inventory.name,
                INVENTORY: str(self.inventory.path),
                HOST: name,
                ADDRESS: address,
                DEBIAN: str(debian),
            },
            environment={"container": "docker"},  # tells systemd that it runs in a container
            # Not for outgoing connections: services that start later listen here.
            sysctls={"net.ipv4.ip_local_reserved_ports": PAGE_PORTS},
            tty=True,  # the boot messages become the container's log
            cap_add=["ALL"],
            cap_drop=["SYS_RESOURCE"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns="host",
            stop_signal="SIGRTMIN+3",
            tmpfs={"/run": "mode=755", "/run/lock": "mode=1777", "/tmp": "exec,mode=1777"},
            mounts=mounts,
            network=network.name,
            networking_config={
                str(network.name): EndpointConfig(self.client.api.api_version, aliases=[name], ipv4_address=address)
            },
        )

    def _wait(self, containers: dict[str, Container]) -> bool:
        """Wait until each host has booted and answers over SSH with the key read from it; return if a key is new."""
        deadline = time.monotonic() + BOOT_SECONDS
        before = self.inventory.known_hosts.read_text() if self.inventory.known_hosts.exists() else ""
        lines: list[str] = []
        for name, container in containers.items():
            public_key = ""
            while not public_key:
                _pause(name, container, deadline, "makes no host key")
                public_key = _output(container, "cat /etc/ssh/ssh_host_ed25519_key.pub") or ""
            lines.append(public_line(container.labels[ADDRESS], public_key))
        if (after := "".join(lines)) != before:
            self.inventory.write_known_hosts(after)
        for name, container in containers.items():
            state = ""
            while state not in ("running", "degraded"):
                _pause(name, container, deadline, f"does not boot or answer over SSH ({state or 'no answer'})")
                state = self._ssh_state(container.labels[ADDRESS])
            self.report(f"host {name} answers at {container.labels[ADDRESS]} ({state})")
        return after != before

    def _ssh_state(self, address: str) -> str:
        command = self.inventory.ssh_command(address, "-o", "BatchMode=yes", "-o", "ConnectTimeout=5")
        command.append("systemctl is-system-running")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip() or done.stderr.strip()

    def _remove_caches(self) -> bool:
        images = self.client.images.list(REPOSITORY)
        volumes = [volume for volume in self.client.volumes.list() if volume.name in CACHES]
        try:
            for volume in volumes:
                volume.remove()
            for image in images:
                for tag in image.tags:
                    self.client.images.remove(tag)
            shutil.rmtree(archives(), ignore_errors=True)
        except APIError as error:
            raise MlfleetError(f"another lab still uses the caches, take it down first: {error.explanation}") from error
        self.report(f"caches removed: {len(volumes)} volumes, {len(images)} images")
        return bool(images or volumes)


def _is_removed(container: Container) -> bool:
    return str(container.name).endswith(REMOVED)


def free_address(subnet: str, used: set[str]) -> str:
    """Return the first address of *subnet* (CIDR) that is neither in *used* nor the gateway's, which is the very first.

    Raises:
        MlfleetError: all are taken.
    """
    hosts = ipaddress.ip_network(subnet).hosts()
    next(hosts)
    for address in map(str, hosts):
        if address not in used:
            return address
    raise MlfleetError(f"the lab's network {subnet} is full.")


def _failed_units(container: Container) -> int | None:
    units = _output(container, "systemctl list-units --failed --no-legend --plain")
    return None if units is None else len(units.splitlines())


def _output(container: Container, command: str) -> str | None:
    """Run *command* in a container; return its output, or None if it fails."""
    code, output = container.exec_run(command)
    return output.decode() if code == 0 and isinstance(output, bytes) else None


def _pause(name: str, container: Container, deadline: float, complaint: str) -> None:
    """Let a host continue to boot, or raise if it has stopped or run out of time."""
    container.reload()
    if container.status == "running" and time.monotonic() < deadline:
        time.sleep(0.3)
        return
    log = container.logs(tail=LOG_LINES).decode(errors="replace").rstrip()
    state = f"{complaint} within {BOOT_SECONDS} s" if container.status == "running" else f"is {container.status}"
    raise MlfleetError(f"host {name} {state}; its last lines:\n{log}")


def _tar(files: dict[str, bytes]) -> bytes:
    """Pack *files* (path to content) as root's; the home of `ops` belongs to the only ordinary user, id 1000."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            if path.startswith("home/ops/"):
                entry.uid = entry.gid = 1000
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()

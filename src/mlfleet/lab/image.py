"""The base image of lab hosts: a bare Debian with systemd and sshd, bootstrapped from Debian's packages."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import docker

from mlfleet.project import MlfleetError

REPOSITORY = "mlfleet-lab"
RELEASES = {12: "bookworm", 13: "trixie"}
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BUILD_SECONDS = 1200

# Runs on the controller with the new root directory as $1. Files that must differ from host to host are emptied here
# and created on first boot. Hosts share a pool of downloaded packages, but not the archives directory, which apt locks.
RECIPE = r"""set -eu
cd "$1"
rm -f etc/ssh/ssh_host_* etc/apt/sources.list etc/apt/sources.list.d/* var/lib/dbus/machine-id
: > etc/machine-id
: > etc/resolv.conf
echo localhost > etc/hostname

chroot . useradd --create-home --shell /bin/bash ops
install -d -m 0700 -o "$(stat -c %u home/ops)" -g "$(stat -c %g home/ops)" home/ops/.ssh
install -m 0440 /dev/stdin etc/sudoers.d/ops <<'END'
ops ALL=(ALL) NOPASSWD: ALL
END

cat > etc/systemd/system/first-boot.service <<'END'
[Unit]
Description=Host keys and trusted certificates of this host
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/sbin/update-ca-certificates
ExecStart=/usr/bin/ssh-keygen -A

[Install]
RequiredBy=ssh.service
END
chroot . systemctl --quiet enable first-boot.service ssh.service
chroot . systemctl --quiet mask systemd-modules-load.service  # the kernel is the controller's

# No lab host outlives a power cut.
echo force-unsafe-io > etc/dpkg/dpkg.cfg.d/lab

# The test is for mmdebstrap, whose last apt runs outside the new root.
cat > etc/apt/apt.conf.d/90lab-cache <<'END'
APT::Keep-Downloaded-Packages "true";
APT::Update::Post-Invoke { "[ ! -x /usr/local/sbin/lab-apt-cache ] || /usr/local/sbin/lab-apt-cache seed"; };
DPkg::Post-Invoke { "[ ! -x /usr/local/sbin/lab-apt-cache ] || /usr/local/sbin/lab-apt-cache save"; };
END
install -m 0755 /dev/stdin usr/local/sbin/lab-apt-cache <<'END'
#!/bin/sh
# A cache must never fail an installation.
pool=/var/cache/mlfleet/apt
[ -d "$pool" ] && cd /var/cache/apt/archives || exit 0
case $1 in
seed)
    find "$pool" -maxdepth 1 -name '*.deb' -exec ln -sf -t . {} +
    ;;
save)
    find . -maxdepth 1 -type f -name '*.deb' -printf '%f\n' | while read -r deb; do
        cp "$deb" "$pool/.$deb.$(hostname)" && mv "$pool/.$deb.$(hostname)" "$pool/$deb" && ln -sf "$pool/$deb" "$deb"
    done
    ;;
esac
exit 0
END
"""


@dataclass(frozen=True)
class Source:
    """A package source of apt."""

    uri: str
    suite: str
    components: str
    signed_by: str = ""


def recipe_digest() -> str:
    return hashlib.sha256("\n".join((*PACKAGES, RECIPE)).encode()).hexdigest()[:12]


def image_tag(debian: int) -> str:
    """Return the name of the base image of Debian release *debian*; it changes with the recipe."""
    return f"{REPOSITORY}:debian{debian}-{recipe_digest()}"


def archive_path(directory: Path, debian: int | str) -> Path:
    """Return where the archive of Debian release *debian*'s base image is."""
    return directory / f"debian{debian}-{recipe_digest()}.tar"


def ensure_image(client: docker.DockerClient, debian: int, sources: str, report: Callable[[str], None]) -> str:
    """Build the base image unless it exists; return its name.

    Raises:
        MlfleetError: mmdebstrap is missing, fails, or takes longer than `BUILD_SECONDS`.
    """
    tag = image_tag(debian)
    if client.images.list(name=tag):
        return tag
    if not shutil.which("mmdebstrap"):
        raise MlfleetError("mmdebstrap is not installed: run `apt-get install mmdebstrap docker.io`.")
    report(f"building image {tag} (minutes, once)")
    with tempfile.TemporaryDirectory(prefix="mlfleet-image-") as scratch:
        root_tar, hook, source_file = (Path(scratch, name) for name in ("root.tar", "recipe.sh", "debian.sources"))
        hook.write_text(RECIPE)
        source_file.write_text(sources)
        _bootstrap(RELEASES[debian], source_file, hook, root_tar)
        repository, _, version = tag.partition(":")
        client.api.import_image_from_file(str(root_tar), repository=repository, tag=version)
    report(f"image {tag} built")
    return tag


def ensure_archive(client: docker.DockerClient, tag: str, archive: Path, report: Callable[[str], None]) -> None:
    """Write the file system of image *tag* to *archive* unless it exists.

    Lab hosts with a Docker engine build their images on it, because they reach no registry.
    """
    if archive.exists():
        return
    report(f"writing {archive}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    container = client.containers.create(tag, "true")
    try:
        temporary = archive.with_suffix(f".{os.getpid()}")
        with temporary.open("wb") as file:
            file.writelines(container.export())  # type: ignore[arg-type]
        temporary.rename(archive)
    finally:
        container.remove()


def _bootstrap(suite: str, source_file: Path, hook: Path, target: Path) -> None:
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f'--customize-hook=sh {hook} "$1"',
        suite,
        str(target),
        str(source_file),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MlfleetError(f"mmdebstrap did not finish within {BUILD_SECONDS} s: check the Debian mirror.") from error
    if done.returncode:
        raise MlfleetError("mmdebstrap failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))


def debian_sources(debian: int, directory: Path = Path("/etc/apt")) -> str:
    """Return a deb822 document with the Debian archives that this controller uses, for Debian release *debian*.

    Third-party archives are left out.

    Raises:
        MlfleetError: the controller uses no Debian archive.
    """
    suite = RELEASES[debian]
    own = list(dict.fromkeys(source for source in _read_sources(directory) if _is_debian(source)))
    if not own:
        raise MlfleetError(
            f"{directory} names no Debian archive to create lab hosts from: run the lab on a Debian machine."
        )
    codename = own[0].suite.partition("-")[0]
    sources = [
        Source(source.uri, source.suite.replace(codename, suite), source.components, source.signed_by or KEYRING)
        for source in own
    ]
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}\nComponents: {source.components}\n"
        f"Signed-By: {source.signed_by}\n"
        for source in sources
    )


def _is_debian(source: Source) -> bool:
    """Distinguish Debian's archive from others with its layout: by the key, or without one by the address."""
    suite = re.fullmatch(rf"({'|'.join(RELEASES.values())})(-updates|-security)?", source.suite)
    path = urlsplit(source.uri).path.rstrip("/").rpartition("/")[2]
    ours = "debian-archive" in source.signed_by if source.signed_by else path in ("debian", "debian-security")
    return bool(suite) and ours and source.uri.startswith("http") and "main" in source.components.split()


def _read_sources(directory: Path) -> Iterable[Source]:
    for path in sorted((directory / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            yield from _deb822(stanza)
    for path in [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else ():
            if entry := re.match(r"deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line):
                options, uri, suite, components = entry.groups()
                signed_by = re.search(r"signed-by=(\S+)", options or "")
                yield Source(uri, suite, " ".join(components.split()), signed_by[1] if signed_by else "")


def _deb822(stanza: str) -> Iterable[Source]:
    lines = [line for line in stanza.splitlines() if line and not line.startswith(("#", " ", "\t"))]
    fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            yield Source(uri, suite, fields.get("components", ""), fields.get("signed-by", ""))

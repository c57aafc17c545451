"""Print metrics of mlfleet itself: its version, ends of certificates, age of secrets, and the host's GPUs.

The door runs it when Prometheus asks. It takes no arguments, because the door would pass on those of the request.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from cryptography import x509

HERE = Path(__file__).parent
# Two of them are less than the door's patience.
SMI_SECONDS = 10
Sample = tuple[str, dict[str, Any], float]


def samples(settings: Mapping[str, Any], directory: Path) -> Iterator[Sample]:
    """Yield each metric: name, labels and value."""
    yield "version_info", {"version": settings["version"]}, 1
    for path in sorted(path for pattern in settings["certificates"] for path in Path("/").glob(pattern.lstrip("/"))):
        found = x509.load_pem_x509_certificate(path.read_bytes())
        # Debian 12's library has no time zone there.
        ends = getattr(found, "not_valid_after_utc", None) or found.not_valid_after.replace(tzinfo=UTC)
        yield "certificate_end_timestamp_seconds", {"path": path}, ends.timestamp()
    for mark in sorted((directory / "secrets").glob("*")):
        yield "secret_changed_timestamp_seconds", {"secret": mark.name}, mark.stat().st_mtime
    if settings["gpus"]:
        yield from of_gpus(smi("-q", "-x"), smi("-L"))


def of_gpus(report: str, listing: str) -> Iterator[Sample]:
    """Yield the metrics of GPUs; none if the driver does not answer. Workers use whole ones, or the slices of one."""
    import gpu  # lies beside this file on hosts with GPUs

    found = gpu.from_smi(report, listing)["gpus"]
    if found:
        yield "gpus", {}, sum(len(each["mig_slices"]) if each["mig_enabled"] else 1 for each in found)
    for index, values in gpu.readings(report, listing).items():
        for name, value in values.items():
            yield f"gpu_{name}", {"gpu": index}, value


def smi(*options: str) -> str:
    """Return what nvidia-smi says. While one hangs in the driver, the lock keeps others from joining it."""
    home, path = os.environ.get("HOME", ""), os.environ.get("PATH", "")
    command = ["flock", "--timeout", str(SMI_SECONDS), f"{home}/nvidia-smi.lock", "nvidia-smi", *options]
    environment = {**os.environ, "PATH": f"{path}:/usr/local/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, errors="replace", timeout=SMI_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def main() -> None:
    for name, labels, value in samples(json.loads((HERE / "mlfleet.json").read_text()), HERE):
        # JSON quotes texts as Prometheus does.
        words = ",".join(f"{label}={json.dumps(str(text), ensure_ascii=False)}" for label, text in labels.items())
        print(f"mlfleet_{name}{{{words}}} {value!r}")


if __name__ == "__main__":
    main()

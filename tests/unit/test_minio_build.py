"""MinIO's program is built in parallel with other work, and causes of a failure are reported before.

Go itself builds a small program, from a module proxy in a directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/minio/files/build.sh"
VERSION = "v1.0.0"
MAIN = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("served") }\n'


@pytest.fixture
def proxy(tmp_path):
    """A module proxy in a directory, with a module that is a program."""

    def publish(name: str, main: str = MAIN, go: str = "1.21") -> None:
        directory = tmp_path / "proxy" / name / "@v"
        directory.mkdir(parents=True)
        manifest = f"module {name}\n\ngo {go}\n"
        (directory / "list").write_text(f"{VERSION}\n")
        (directory / f"{VERSION}.info").write_text(f'{{"Version": "{VERSION}"}}')
        (directory / f"{VERSION}.mod").write_text(manifest)
        with zipfile.ZipFile(directory / f"{VERSION}.zip", "w") as archive:
            archive.writestr(f"{name}@{VERSION}/go.mod", manifest)
            archive.writestr(f"{name}@{VERSION}/main.go", main)

    publish.url = f"file://{tmp_path}/proxy"
    return publish


@pytest.fixture
def build(tmp_path, proxy):
    environment = os.environ | {
        "GO": shutil.which("go") or "",
        "MODULE": f"example.org/minio@{VERSION}",
        "RELEASE": "R",
        "BUILT": "B",
        "CGO_ENABLED": "0",
        "GOTMPDIR": str(tmp_path / "programs"),
        "GOBIN": str(tmp_path / "programs/minio-1"),
        "PROGRAM": str(tmp_path / "builds/lab/minio-1/minio"),
        "GOPROXY": proxy.url,
        "GONOSUMDB": "*",
        "GOFLAGS": "-modcacherw",
        "GOMODCACHE": str(tmp_path / "modules"),
        "GOTOOLCHAIN": "local",
    }

    def run(*words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT, *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment | changed,
            timeout=300,
            cwd=tmp_path,
        )

    run.program, run.cached = Path(environment["PROGRAM"]), tmp_path / "programs/minio-1/minio"
    return run


def test_what_begins_goes_on_by_itself(build, proxy):
    proxy("example.org/minio")
    begun = build("begin")
    assert (begun.returncode, begun.stdout) == (0, "begun\n"), begun.stderr
    lock = build.cached.parents[1] / "minio.lock"
    subprocess.run(["flock", str(lock), "true"], check=True, timeout=300)
    assert build.cached.exists() and not build.program.exists()


def test_what_begins_is_waited_for(build, proxy):
    proxy("example.org/minio")
    assert build("begin").stdout == "begun\n"
    waited = build()
    assert (waited.returncode, waited.stdout) == (0, ""), waited.stderr
    assert subprocess.check_output([build.program], text=True) == "served\n"
    assert build("begin").stdout == build().stdout == ""


def test_nothing_begins_beside_another_build(build, proxy, tmp_path):
    proxy("example.org/minio")
    (tmp_path / "programs").mkdir()
    with (tmp_path / "programs/minio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = build("begin", GO="/no/such/go")
    assert (begun.returncode, begun.stdout) == (0, ""), begun.stderr


def test_full_disk_is_told_at_once(build, proxy, tmp_path):
    proxy("example.org/minio")
    (tmp_path / "df").write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available\necho /dev/sda1 9 7 2\n")
    (tmp_path / "df").chmod(0o755)
    done = build("begin", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode != 0 and "less than 3 GB are free" in done.stderr, done


def test_where_it_is_started_does_not_matter(build, proxy, tmp_path):
    proxy("example.org/minio")
    (tmp_path / "go.mod").write_text("module other\n\ngo 1.21\n\nrequire example.org/none v1.0.0\n")
    (tmp_path / "vendor").mkdir()
    assert build("begin").stdout == "begun\n"
    assert build().returncode == 0


def test_program_of_another_version_goes(build, proxy, tmp_path):
    proxy("example.org/minio")
    assert build().stdout == "built\n"
    other = tmp_path / "builds/lab/minio-2/minio"
    again = build(PROGRAM=str(other))
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
    assert other.exists() and not build.program.parent.exists()
    assert (tmp_path / "programs/minio-1/minio").samefile(other)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"GO": "/no/such/go"}, "minio_go: there is no /no/such/go"),
        ({"MODULE": "example.org/minio@v2.0.0"}, "example.org/minio@v2.0.0"),
        ({"MODULE": f"example.org/newer@{VERSION}"}, "and MinIO needs Go 9.1"),
        ({"GOPROXY": "http://127.0.0.1:9"}, "connection refused"),
    ],
)
def test_what_would_make_it_fail_is_told_at_once(build, proxy, tmp_path, changed, line):
    proxy("example.org/minio")
    proxy("example.org/newer", go="9.1")
    done = build("begin", **changed)
    assert done.returncode != 0 and line in done.stderr, done
    assert not list(tmp_path.glob("programs/minio-1/*"))


def test_build_that_failed_beside_is_told_where_it_is_needed(build, proxy):
    proxy("example.org/minio", main="package main\n\nfunc main() { nonsense }\n")
    assert build("begin").returncode == 0
    done = build()
    assert done.returncode != 0 and "undefined: nonsense" in done.stderr, done
    assert not build.program.exists()

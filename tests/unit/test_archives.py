"""Archives never write to the paths that they name, and their files can be read back."""

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.archives import ArchiveError, read, without_top, write

FILES = {"index.html": b"<p>", "assets/a.js": b"1"}


def tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, linkname, 1 if kind == tarfile.REGTYPE else 0
    return info


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


def test_what_was_written_is_read_and_always_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.tar.gz", FILES)
    write(tmp_path / "b.tar.gz", dict(reversed(FILES.items())))
    assert read(tmp_path / "a.tar.gz") == FILES
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "b.tar.gz"]


def test_single_directory_around_all_is_left_out() -> None:
    assert without_top({"dist/index.html": b"", "dist/assets/a.js": b""}).keys() == FILES.keys()
    for files in ({"dist/index.html": b"", "other": b""}, {"index.html": b""}):
        assert without_top(files) == files


def test_names_are_relative_to_where_they_are(tmp_path: Path) -> None:
    assert read(tar(tmp_path / "a.tgz", member("./dist/index.html"), member("b"))).keys() == {"dist/index.html", "b"}


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a\\..\\..\\out"])
def test_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    for path in (tar(tmp_path / "a.tgz", member("index.html"), member(name)), zipped(tmp_path / "a.zip", name)):
        with pytest.raises(ArchiveError, match="leads out of the archive; pack it with relative paths"):
            read(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ArchiveError, match="a is a link or a device; pack plain files alone"):
        read(tar(tmp_path / "a.tgz", member("index.html"), member("a", kind, "/etc/passwd")))


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a is a link or a device"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("make", [tar, zipped])
def test_number_of_files_is_bounded(tmp_path: Path, make: Callable[..., Path]) -> None:
    names = [str(number) for number in range(4)]
    path = make(tmp_path / "a", *(names if make is zipped else map(member, names)))
    assert len(read(path, max_files=4)) == 4
    with pytest.raises(ArchiveError, match="has more than 3 files or 512 MiB unpacked: pack only what is needed"):
        read(path, max_files=3)


def test_little_that_unpacks_to_much_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    zeros, size = b"\0" * (1 << 20), 300 << 20
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(300):
            file.write(zeros)
    header = tarfile.TarInfo("a")
    header.size = size
    long_name = tarfile.TarInfo("././@LongLink")  # read by tarfile itself, before it returns any member
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, size
    for name, info in (("a.tgz", header), ("b.tgz", long_name)):
        with gzip.open(tmp_path / name, "wb") as stream:
            stream.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(300):
                stream.write(zeros)
    tracemalloc.start()
    for name in ("a.zip", "a.tgz", "b.tgz"):
        with pytest.raises(ArchiveError, match=f"{name} has more than 50000 files or 8 MiB"):
            read(tmp_path / name, max_bytes=8 << 20)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(ArchiveError, match="not a readable archive"):
        read(tmp_path / "text")
    damaged = bytearray(gzip.compress(b"x" * 5000, mtime=0))
    damaged[12] ^= 0xFF
    (tmp_path / "damaged.tar.gz").write_bytes(damaged)
    with pytest.raises(ArchiveError, match="not a readable archive"):
        read(tmp_path / "damaged.tar.gz")
    with pytest.raises(ArchiveError, match="there is no"):
        read(tmp_path / "missing")

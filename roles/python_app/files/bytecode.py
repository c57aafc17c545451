# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compile the packages of an environment, each package once for all environments of a host.

Usage: PYTHON bytecode.py STORE, with the Python of the environment.

The store is a directory with a file for each package, named after the digest of all its sources, so that no package
gets the code of another one. Python corrects the paths in the code when it imports it, so environments can share it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import marshal
import multiprocessing
import os
import re
import sys
import sysconfig
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

LEADS_OUT = re.compile(r"^/|(^|/)\.\.(/|$)")  # such as ../../../bin/program.py


def main(site: Path, store: Path) -> None:
    """Compile the packages below *site*, a directory that Python imports from; the largest ones first."""
    store.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    records = sorted(site.glob("*.dist-info/RECORD"), key=lambda record: record.stat().st_size, reverse=True)
    processes = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as executor:
        list(executor.map(compile_package, records, [store] * len(records)))


def compile_package(record: Path, store: Path) -> None:
    site = record.parents[1]
    with record.open(encoding="utf-8", newline="") as rows:
        names = sorted({row[0] for row in csv.reader(rows) if row[0].endswith(".py") and not LEADS_OUT.search(row[0])})
    sources = {name: (site / name).read_bytes() for name in names if (site / name).is_file()}
    if not sources:
        return
    kept = store / digest(sources)
    codes = stored(kept)
    if codes is None:
        codes = {name: code for name, source in sources.items() if (code := compiled(name, source))}
        write(kept, marshal.dumps(codes), durable=True)
    for name, code in codes.items():
        state = (site / name).stat()
        words = (0, int(state.st_mtime), state.st_size)  # as PEP 552 has it: flags, time and size of the source
        header = importlib.util.MAGIC_NUMBER + b"".join((word & 0xFFFFFFFF).to_bytes(4, "little") for word in words)
        path = Path(importlib.util.cache_from_source(str(site / name)))
        path.parent.mkdir(exist_ok=True)
        write(path, header + code)


def digest(sources: dict[str, bytes]) -> str:
    found = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, source in sources.items():
        found.update(f"{name}\0{len(source)}\0".encode() + source)
    return found.hexdigest()


def stored(kept: Path) -> dict[str, bytes] | None:
    with suppress(FileNotFoundError, EOFError, TypeError, ValueError):  # a damaged file is none
        codes: dict[str, bytes] = marshal.loads(kept.read_bytes())
        return codes
    return None


def compiled(name: str, source: bytes) -> bytes | None:
    """Return the code, or nothing for a file that this Python cannot compile, such as a template."""
    with suppress(SyntaxError, ValueError, RecursionError):
        return marshal.dumps(compile(source, name, "exec", dont_inherit=True))
    return None


def write(path: Path, content: bytes, durable: bool = False) -> None:
    """Write the file atomically, because processes, also of other containers, may write it at the same time."""
    new = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    with new.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)


if __name__ == "__main__":
    main(Path(sysconfig.get_path("purelib")), Path(sys.argv[1]))

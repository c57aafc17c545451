"""Each kind of drift of monitoring is found correctly, without others, and fixed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..test_testbed_drift import Drifting, kinds_of
from .conftest import HOST, Watched

pytestmark = pytest.mark.fleet

GROUPS = kinds_of(Path(__file__).with_name("kinds.yml"))


@pytest.fixture(scope="module")
def drifting(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drifting]:
    watched.converge()
    yield Drifting(watched, tmp_path_factory.mktemp("drift"), HOST)
    watched.converge()


@pytest.mark.parametrize("group", GROUPS)
def test_each_kind_is_found_rightly_and_alone_and_mended(drifting: Drifting, group: str) -> None:
    drifting.find_and_mend(group, GROUPS[group])

"""A segment that finds no room in Ray's object store, nor on the disk behind it."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import media
from tests.cluster import small
from tests.cluster.test_blind import noise
from tests.cluster.test_parts import job_for
from vsr import jobs
from vsr.cluster import driver, rays
from vsr.errors import SinkError
from vsr.io.journal import folder_of, read_journal
from vsr.io.plan import SinkOptions

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets and processes at its end
]
STORE = 2 << 20


@pytest.fixture
def tiny() -> Iterator[Any]:
    """One node with hardly any store, and a disk that counts as full from the beginning."""
    full = {"local_fs_capacity_threshold": 0.0001, "local_fs_monitor_interval_ms": 100}
    with small.cluster(1, store=STORE, **full) as found:
        yield found


def test_a_segment_without_room_is_one_line_and_the_journal_is_kept(
    tiny: Any, tmp_path: Path
) -> None:
    flat = [np.full((144, 192, 3), shade, np.uint8) for shade in range(10)]
    film = media.clip(tmp_path / "in.mkv", frames=[*flat, *noise(24, (192, 144))], rate=5)
    sink = SinkOptions(encoder="ffv1")
    whole = job_for(film, tmp_path / "whole.mkv", sink=sink, scale=4, segment=10, device="auto")
    jobs.run(whole)
    job = replace(whole, target=tmp_path / "out.mkv")
    shared = tmp_path / "shared"
    shared.mkdir()
    with closing(rays.RayCrew(tiny.address, patience=300)) as crew:
        with pytest.raises(SinkError, match=r"have no room for a segment .* --work-dir") as caught:
            driver.run(job, crew)
        assert "\n" not in str(caught.value)
        journal = read_journal(folder_of(job.target))
        assert journal is not None
        assert journal.frames == 10
        assert journal.segments[0].size < STORE
        assert driver.run(job, crew, work_dir=str(shared)).begun == 10
    assert job.target.read_bytes() == whole.target.read_bytes()

"""Traces: what a viewer reads, from several threads, and of a whole job."""

import json
import threading
import time

import pytest

from tests.media import decoded
from vsr.cli.main import run
from vsr.trace import Trace, each_spanned, spanned


def spans(path):
    events = json.loads(path.read_text("utf-8"))["traceEvents"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    return [(tracks[e["tid"]], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]


def test_spans_lie_on_the_tracks_of_their_threads(tmp_path):
    trace = Trace()

    def work():
        with trace.span("sleep"):
            time.sleep(0.02)

    thread = threading.Thread(target=work, name="sleeper")
    thread.start()
    thread.join()
    trace.add("compute", time.perf_counter(), 0.5, "cuda compute")
    trace.write(tmp_path / "trace.json")
    (sleep, compute) = spans(tmp_path / "trace.json")
    assert sleep[:2] == ("sleeper", "sleep")
    assert 15_000 < sleep[3] < 5_000_000
    assert compute[:2] == ("cuda compute", "compute")
    assert compute[2] >= sleep[2] + sleep[3] - 1
    assert compute[3] == 500_000


def test_getting_items_is_spanned_and_errors_pass(tmp_path):
    trace = Trace()
    assert list(each_spanned(range(3), trace, "get")) == [0, 1, 2]

    def failing():
        yield 1
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it has no text
        list(each_spanned(failing(), trace, "get"))
    with spanned(None, "nothing"):
        pass
    trace.write(tmp_path / "trace.json")
    assert len(spans(tmp_path / "trace.json")) == 6


def test_a_job_records_every_stage_of_every_frame(film, tmp_path, capsys):
    command = ["upscale", str(film), "-s", "2", "-n", "bicubic", "-d", "cpu"]
    profile = tmp_path / "trace.json"
    assert run([*command, "-o", str(tmp_path / "out.mkv"), "--profile", str(profile)]) == 0
    count = len(decoded(film))
    found = [name for _, name, _, _ in spans(profile)]
    assert found.count("network") == count
    assert found.count("encode") == count
    assert found.count("decode") == count + 1  # the last look finds the end
    capsys.readouterr()
    assert (
        run([*command, "-o", str(tmp_path / "b.mkv"), "--profile", str(tmp_path / "no" / "t")]) == 2
    )
    assert "no" in capsys.readouterr().err

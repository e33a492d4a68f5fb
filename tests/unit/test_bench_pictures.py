"""Pictures of results: one for every kind of benchmark, drawn of its file and of no other."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.media import REPO

RESULTS = REPO / "scripts" / "bench" / "results"
KINDS = ("cpu", "pipeline", "network", "peers", "vapoursynth", "quality")
MACHINE = {"device": "cpu", "processor": "A processor", "cores": 3}


@pytest.fixture(name="bench", autouse=True)
def among_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPO / "scripts" / "bench"))


@pytest.fixture(name="shared")
def what_benchmarks_share() -> ModuleType:
    import _report

    return _report


@pytest.fixture(name="report")
def maker_of_the_page() -> ModuleType:
    import report

    return report


@pytest.fixture(name="drawing")
def how_it_is_drawn() -> ModuleType:
    import _drawing

    return _drawing


def repeats(*rates: float) -> dict[str, Any]:
    rows = [{"film": f"film {n}", "fps": fps, "reused": 0.5} for n, fps in enumerate(rates)]
    return {"machine": MACHINE, "rows": rows}


def widest(path: Path, top: int, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour in a row of a picture."""
    with Image.open(path) as picture:
        return int((np.asarray(picture.convert("RGB"))[top] == colour).all(axis=1).sum())


def test_every_kind_that_is_asked_for_has_a_picture() -> None:
    import _charts

    assert set(KINDS) <= set(_charts.DRAWINGS)


def test_pictures_of_the_results_are_of_their_figures_and_small(report: ModuleType) -> None:
    assert [path.name for path, *_ in report.old_pictures(RESULTS)] == []
    assert all(path.stat().st_size <= 60_000 for path in RESULTS.glob("*.png"))


def test_a_result_is_drawn_when_it_is_written(shared: ModuleType, tmp_path: Path) -> None:
    shared.save(tmp_path / "repeats-a.json", repeats(10, 40))
    assert json.loads((tmp_path / "repeats-a.json").read_text("utf-8")) == repeats(10, 40)
    blue = (0x3F, 0x7C, 0xAC)
    lines = [14 + 24 + 10 + 24 * number + 10 for number in (0, 1)]
    short, long = (widest(tmp_path / "repeats-a.png", line, blue) for line in lines)
    assert long == pytest.approx(4 * short, abs=8)
    assert long > 300
    shared.save(tmp_path / "other.json", repeats(10, 40), "repeats")
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "repeats-a.png").read_bytes()
    shared.save(tmp_path / "soak.json", repeats(1))
    assert not (tmp_path / "soak.png").exists()


def test_only_a_picture_of_other_figures_is_drawn_again(
    report: ModuleType, shared: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    path, picture = tmp_path / "repeats-a.json", tmp_path / "repeats-a.png"
    shared.save(path, repeats(10, 40))
    first = picture.read_bytes()
    path.write_text(json.dumps(repeats(10, 20)))
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    with pytest.raises(SystemExit, match=r"repeats-a\.png"):
        report.main()
    assert picture.read_bytes() == first
    monkeypatch.setattr("sys.argv", ["report.py"])
    report.main()
    assert picture.read_bytes() != first
    assert "![repeats-a](repeats-a.png)" in (tmp_path / report.PAGE).read_text("utf-8")
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    report.main()
    Image.new("RGB", (4, 4)).save(picture)  # of nothing that it tells
    with pytest.raises(SystemExit, match=r"repeats-a\.png"):
        report.main()


def test_kinds_that_take_a_gpu_or_hours_are_drawn_too(
    shared: ModuleType, drawing: ModuleType, tmp_path: Path
) -> None:
    engine = {"network": "n x2", "engine": "torch fp32", "mode": "alone", "milliseconds": 3.0}
    rate = {"network": "n x2", "input": "720p", "engine": "triton", "precision": "fp16"}
    job = {"network": "n", "input": "1×1", "peer": "vsr", "version": "", "fps": 2.0}
    files = {
        "cpu": {"threads": 2, "rows": [engine]},
        "network": {"rows": [rate | {"network_fps": 9.0, "pipeline_fps": 8.0}]},
        "kernels": {
            "precision": "fp16",
            "rows": [{"work": "64→64", "input": "540p", "own_ms": 1.0, "reference_ms": 1.5}],
        },
        "peers": {"speed": {"rows": [job]}, "fidelity": {"lost": {"a film": {"vsr": []}}}},
        "fleet": {"rows": [{"members": 1, "fps": 3.0}]},
    }
    for kind, facts in files.items():
        path = shared.save(tmp_path / f"{kind}.json", {"machine": MACHINE} | facts)
        told = drawing.shown(path.with_suffix(".png"))
        assert told is not None, kind
        assert "measured on A processor, 3 cores" in told
        assert told == shared.picture_of(kind, json.loads(path.read_text("utf-8")))
    assert "1.5" in (drawing.shown(tmp_path / "kernels.png") or "")


def test_bars_below_zero_end_where_those_above_begin(drawing: ModuleType, tmp_path: Path) -> None:
    bars = drawing.Bars(title="t", unit="dB", groups={"": {"loss": -1.0, "gain": 1.0}})
    path = tmp_path / "x.png"
    drawing.paint(path, [bars], "nobody")
    with Image.open(path) as picture:
        codes = np.asarray(picture.convert("RGB"))
    lines = [codes[14 + 24 + 10 + 24 * number + 10] for number in (0, 1)]
    loss, gain = (np.flatnonzero((line == (0x3F, 0x7C, 0xAC)).all(axis=1)) for line in lines)
    assert abs(int(loss[-1]) - int(gain[0])) <= 1
    assert abs(loss.size - gain.size) <= 1

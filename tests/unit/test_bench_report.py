"""The page of results is what its script makes of them; every figure in it comes from a file."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.media import REPO

RESULTS = REPO / "scripts" / "bench" / "results"


@pytest.fixture(name="report")
def imported(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPO / "scripts" / "bench"))
    import report

    return report


def test_the_page_is_made_of_the_results_that_lie_beside_it(report: ModuleType) -> None:
    written = (RESULTS / report.PAGE).read_text("utf-8")
    assert written == report.page(RESULTS), "run python scripts/bench/report.py"


def test_every_result_names_its_machine_and_every_kind_its_command(report: ModuleType) -> None:
    text = report.page(RESULTS)
    for path in RESULTS.glob("*.json"):
        assert f"[{path.name}]({path.name})" in text
        told = report.machines(json.loads(path.read_text("utf-8")))
        assert told, f"{path.name} does not say what it was measured on"
        assert all(told)
    for picture in RESULTS.glob("*.png"):
        assert f"({picture.name})" in text
    assert text.count("\n## ") == text.count("\n    python scripts/")


def test_another_figure_makes_another_page(report: ModuleType, tmp_path: Path) -> None:
    facts = {
        "machine": {"device": "cpu", "processor": "A processor", "cores": 3},
        "load_at_start": 1.5,
        "rows": [{"film": "of a test", "fps": 12.34, "reused": 0.25}],
    }
    file = tmp_path / "repeats-a.json"
    file.write_text(json.dumps(facts))
    text = report.page(tmp_path)
    assert "A processor, 3 cores, load 1.5 at the start" in text
    assert "| of a test | 12.3 | 25% |" in text
    facts["rows"][0]["fps"] = 56.78
    file.write_text(json.dumps(facts))
    assert "| of a test | 56.8 | 25% |" in report.page(tmp_path)


def test_a_kind_without_a_table_of_its_own_is_shown_as_it_is(
    report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(report.SECTIONS, "repeats")
    rows = [{"film": "a|b", "fps": 1.5, "stages": {"x": 1}}, {"film": "c", "reused": True}]
    facts = {"processor": "P", "rows": rows}
    (tmp_path / "repeats.json").write_text(json.dumps(facts))
    text = report.page(tmp_path)
    assert "| film | fps | reused |" in text
    assert "| a\\|b | 1.50 | – |" in text
    assert "| c | – | True |" in text


def test_check_refuses_an_old_page(
    report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["report.py"])
    report.main()
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    report.main()
    (tmp_path / report.PAGE).write_text("# something else\n")
    with pytest.raises(SystemExit, match=r"run python scripts/bench/report\.py"):
        report.main()


def test_peers_are_told_beside_ours(report: ModuleType) -> None:
    row = {"network": "n", "input": "1×1", "version": "", "steady_fps": None, "peak_mb": 7}
    speed = {
        "encoding": "--crf 18",
        "rows": [
            row | {"peer": "vsr", "origin": "vsr", "fps": 6.0},
            row | {"peer": "theirs", "origin": "package", "version": "1.2", "fps": 1.5},
        ],
    }
    (_, (head, rows)), (title, (ways, lost)) = report.SECTIONS["peers"](
        {
            "speed": speed,
            "fidelity": {
                "left_out": ["another"],
                "versions": {"vsr": "", "theirs": "1.2"},
                "origins": {"vsr": "vsr", "theirs": "package"},
                "lost": {"a film": {"vsr": [], "theirs": ["6 frames for 8", "colour tags"]}},
            },
        }
    )
    assert rows[1] == ["n", "1×1", "theirs", "package 1.2", "1.5", "–", "7 MB", "4.0×"]
    assert head[-1] == "vsr is"
    assert title == "What is lost (not installed: another)"
    assert ways == ["film", "vsr", "theirs (package 1.2)"]
    assert lost == [["a film", "whole", "6 frames for 8; colour tags"]]

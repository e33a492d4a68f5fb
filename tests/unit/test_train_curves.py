"""What the script of the small recipes makes of a log: figures, curves, and when it objects."""

import json
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.media import REPO
from vsr.train.recipe import shipped

RESULTS = REPO / "scripts" / "bench" / "results"


@pytest.fixture(name="script")
def imported(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPO / "scripts"))
    import train_recipes

    return train_recipes


def logged(folder: Path, *rows: tuple[int, int, float, float]) -> Path:
    """A log with rows of stage, step, PSNR and feature distance."""
    lines = [{"stage": 0, "step": 0, "loss_l1": 0.5}]
    for stage, step, psnr, features in rows:
        found = {"valid_psnr": psnr, "valid_features": features, "valid_psnr_before": 30.0}
        lines.append({"stage": stage, "step": step, **found})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


RISES = (0, 0, 20.0, 0.5), (0, 10, 31.0, 0.2)
STAGES = [{"name": "net"}, {"name": "gan", "gan": {}}]


@pytest.mark.parametrize(
    ("rows", "stages", "flat"),
    [
        (RISES, STAGES[:1], False),
        (RISES[::-1], STAGES[:1], True),
        ([*RISES, (1, 0, 31.0, 0.2), (1, 5, 30.5, 0.1)], STAGES, False),
        ([*RISES, (1, 0, 31.0, 0.2), (1, 5, 31.5, 0.21)], STAGES, True),
    ],
)
def test_a_run_that_lifts_nothing_is_told(
    script: ModuleType,
    tmp_path: Path,
    rows: list[tuple[int, int, float, float]],
    stages: list[dict[str, object]],
    flat: bool,
) -> None:
    lines = script.lines_of(logged(tmp_path, *rows))
    figures, apart = script.FIGURES["restore"], script.adversarial(stages)
    found = script.judged(lines, figures, apart)
    assert script.flat(found, figures, apart) is flat
    assert found["PSNR, dB"]["without"] == 30.0
    assert found["PSNR, dB"]["first"] == rows[0][2]
    assert (f"feature distance{apart}" in found) is True
    if apart:
        assert found[f"feature distance{apart}"]["first"] == 0.2


def test_all_stages_are_judged_by_the_damage_of_the_last_one(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    monkeypatch.setattr(script.subprocess, "run", lambda command, **_: seen.append(command))
    for name in ("vsr-video-small", "dasr-small"):
        script.trained(name, tmp_path, tmp_path / "judge", tmp_path / "run")
    tables = [next(word for word in command if word.startswith("validation=")) for command in seen]
    video, dasr = (tomllib.loads(table)["validation"] for table in tables)
    assert video["folders"] == dasr["folders"] == [str(tmp_path / "judge")]
    assert video["degradation"] == "video"
    assert "degradation" not in dasr, "the recipe's own"


def test_a_damaging_network_is_judged_by_its_spectrum(script: ModuleType) -> None:
    figures = script.FIGURES["cycle"]
    better, worse = {"lifted": True}, {"lifted": False}
    found = {figure.title: better for figure in figures}
    assert not script.flat(found, figures, "")
    assert script.flat(found | {script.SPECTRUM.title: worse}, figures, "")


def test_the_curve_shows_every_figure_and_where_stages_begin(
    script: ModuleType, tmp_path: Path
) -> None:
    rows = [*RISES, (1, 0, 31.0, 0.2), (1, 10, 30.5, 0.1)]
    lines = script.lines_of(logged(tmp_path, *rows))
    assert [at for at, _ in script.curve(lines, "psnr")] == [0, 10, 10, 20]
    script.draw(tmp_path / "a.png", "a run", lines, script.FIGURES["restore"])
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (script.WIDTH, 40 + 2 * script.HEIGHT)
        middle = (script.LEFT + script.WIDTH - 20) // 2
        floor = 40 + script.HEIGHT - script.BOTTOM
        drawn = {picture.getpixel((middle, y)) for y in range(40 + script.TOP, floor - 2)}
    assert (0x8A, 0x94, 0x9E) in drawn, "the line where a stage begins"


def test_every_small_recipe_has_been_run_alike_and_has_lifted_what_it_should(
    script: ModuleType,
) -> None:
    runs = json.loads((RESULTS / "training.json").read_text("utf-8"))["runs"]
    small = {name for name in shipped() if name.endswith("-small")}
    assert set(runs) == small
    assert len({run["judged on"] for run in runs.values()}) == 1
    for name in small:
        stages = script.recipe_of(name)["stages"]
        figures, apart = (
            script.FIGURES[stages[-1].get("task", "restore")],
            script.adversarial(stages),
        )
        assert not script.flat(runs[name]["figures"], figures, apart), name
        assert (RESULTS / f"training-{name}.png").exists()

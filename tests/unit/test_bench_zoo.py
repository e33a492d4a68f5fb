"""The table of the zoo: every checkpoint and every architecture has a row, and the rows are right.

scripts/bench/zoo.py         measures the checkpoints of ../shared/data/weights
scripts/bench/zoo_train.py   trains what none of them is of
"""

import json
from pathlib import Path
from typing import Any

import pytest

from vsr.checkpoints import Checkpoint, read_checkpoint
from vsr.errors import CheckpointError
from vsr.models import architectures, build, detect

RESULTS = Path(__file__).parents[2] / "scripts" / "bench" / "results" / "zoo.json"
ROWS: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8"))["rows"]
BICUBIC = {row["scale"]: row["ours"] for row in ROWS if row["file"] == "bicubic"}
REFUSED = {
    "realesr-animevideov3_deflated.pth": "compressed",
    "niqe_pris_params.npz": "fits no known architecture",
}
"""Not checkpoints that may be loaded."""
OTHERWISE = {"ESPCN-x2_nhat.pt", "ESPCN-x4_nhat.pt"}
"""Published figures that their author's measure does not give; the notes say it."""


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "weights"


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Checkpoint]:
    """What is read of each file, the halves of ncnn's networks that hold numbers only left out."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = [str(path.relative_to(folder)) for path in paths if path.suffix != ".bin"]
    return {name: read_checkpoint(folder / name) for name in names if name not in REFUSED}


@pytest.mark.shared
def test_every_checkpoint_loads_untold_and_has_a_row(found: dict[str, Checkpoint]):
    assert len(found) > 15
    assert found.keys() <= {row["file"] for row in ROWS}
    for checkpoint in found.values():
        build(checkpoint.state, checkpoint.metadata)


@pytest.mark.shared
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_is_refused_in_one_line(folder: Path, name: str):
    with pytest.raises(CheckpointError, match=REFUSED[name]) as caught:
        build(read_checkpoint(folder / name).state)
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_every_architecture_has_a_row(found: dict[str, Checkpoint]):
    trained = {row["file"].split()[0] for row in ROWS if "trained here" in row["note"]}
    given = {detect(checkpoint.state)[0].id for checkpoint in found.values()}
    assert trained | given == set(architectures())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['file']} x{row['scale']}")
def test_figures_are_reproduced_or_pass_bicubic_clearly(row: dict[str, Any]):
    psnr = {name: value["psnr"] for name, value in row["ours"].items()}
    assert set(psnr) == {"Set5", "Set14"}
    if row["file"] in OTHERWISE:
        return
    for name, figure in row["published"].items():
        assert psnr[name] == pytest.approx(figure, abs=0.05)
    if "trained here" in row["note"]:
        for name, value in BICUBIC[row["scale"]].items():
            assert psnr[name] > value["psnr"] + 0.5

"""What README and CONTRIBUTING say is so: commands, code, links, figures, layers."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from tests.media import REPO

README = (REPO / "README.md").read_text("utf-8")
CONTRIBUTING = (REPO / "CONTRIBUTING.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
COMMANDS = re.findall(r"^    (\S.*)$", PROSE, re.MULTILINE)
PROGRAM = [line for line in COMMANDS if line.startswith("vsr ")]


def test_two_commands_lead_from_a_clone_to_a_result_and_to_the_tests() -> None:
    assert [line for line in COMMANDS if not line.startswith("vsr ")] == [
        "python3 scripts/demo.py",
        "python3 scripts/test.py",
    ]
    continuous = (REPO / ".ci" / "run").read_text("utf-8")
    check = (REPO / "scripts" / "check").read_text("utf-8")
    assert "python3 scripts/demo.py" in continuous
    assert "scripts/check" in continuous
    assert "python3 scripts/test.py" in check


@pytest.mark.parametrize("line", PROGRAM)
def test_command_lines_are_understood(line: str, folder: Path, film: Path) -> None:
    from vsr.cli.group import group

    for name in ("movie.mkv", "mine.safetensors"):
        (folder / name).write_bytes(film.read_bytes())
    with click.Context(group) as context:
        name, command, rest = group.resolve_command(context, shlex.split(line)[1:])
        assert command is not None
        command.make_context(name, rest, parent=context).close()


def marked(code: str) -> object:
    return pytest.param(code, marks=[pytest.mark.ffmpeg] if "import ffmpeg" in code else [])


@pytest.mark.parametrize("code", [marked(code) for code in CODE])
def test_python_code_runs(code: str, folder: Path, film: Path) -> None:
    (folder / "movie.mkv").write_bytes(film.read_bytes())
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own text
    for name in re.findall(r'"(\w+\.mkv)"', code):
        assert (folder / name).stat().st_size > 1000


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_what_is_named_exists(text: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:vsr|tests|scripts|examples|filters)/[\w./-]*)`", text)
    missing = [name for name in (*links, *paths) if not (REPO / name).exists()]
    assert not missing


def test_the_picture_is_small() -> None:
    assert (REPO / "examples" / "before_after.png").stat().st_size <= 300_000


def test_quality_figures_are_those_measured() -> None:
    measured = json.loads((REPO / "scripts/bench/results/quality.json").read_text("utf-8"))
    (block,) = re.findall(r"<!-- quality -->\n(.*?)\n<!-- /quality -->", README, re.DOTALL)
    head, _, *rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()
    ]
    assert [row[0] for row in rows] == list(measured["scores"])
    for model, *cells in rows:
        for column, cell in zip(head[1:], cells, strict=True):
            value = measured["scores"][model][column]
            assert cell == (f"{value['psnr']:.2f} / {value['ssim']:.4f}" if value else "–")


def test_the_layers_are_those_that_are_checked() -> None:
    settings = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    section = CONTRIBUTING.partition("## Layers")[2].partition("\n## ")[0]
    told = [
        re.split(r"\s{3,}", line.strip())[0] for line in section.splitlines() if line[:4] == "    "
    ]
    assert told == [layer.replace("vsr.", "") for layer in layers]

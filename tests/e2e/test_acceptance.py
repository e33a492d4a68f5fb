"""Every tricky file of ../shared/accept through the command line, judged by its own checker."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media import SHARED
from vsr.cli.main import run

pytestmark = [pytest.mark.shared, pytest.mark.slow]

ACCEPT = SHARED / "accept"


def _module(name):
    spec = importlib.util.spec_from_file_location(name, ACCEPT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cases():
    """Names of the cases without making any file."""
    if not ACCEPT.is_dir():
        return []
    source = _module("gen")
    return [{"file": name, "kind": kind, **expect} for name, kind, _, _, expect, _ in source.REG]


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accept")
    subprocess.run([sys.executable, str(ACCEPT / "gen.py"), str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
def judge():
    check = _module("check")

    def verdict(source, output, options):
        arguments = [str(source), str(output), *options]
        parsed = check.finish(check.parser().parse_args(arguments))
        return check.check(str(source), str(output), parsed)

    return verdict


def _options(case):
    options = ["--scale", str(case.get("scale", 2)), *case.get("opts", [])]
    if case.get("interlaced"):
        options.append("--interlaced")
    if case["kind"] == "degraded":
        bounds = [str(case.get("min_frames", 0)), str(case.get("max_frames", 10**6))]
        return [*options, "--degraded", "--min-frames", bounds[0], "--max-frames", bounds[1]]
    return options + (["--frames", str(case["frames"])] if "frames" in case else [])


FILES = [c for c in _cases() if not (c.get("folder") or c.get("model"))]
MODELS = [c for c in _cases() if c.get("model")]


@pytest.mark.parametrize(
    ("extension", "model"), [("mkv", "bicubic"), ("mp4", "bicubic"), ("mkv", "auto")]
)
@pytest.mark.parametrize("case", FILES, ids=lambda c: c["file"])
def test_file(case, extension, model, media, judge, tmp_path, capfd):
    source = media / case["file"]
    output = tmp_path / ("out.png" if case.get("image") else f"out.{extension}")
    scale = str(case.get("scale", 2))
    arguments = ["upscale", str(source), "-s", scale, "-o", str(output), "--model", model]
    code = run(arguments)
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert [p for p in tmp_path.iterdir() if p != output] == []
    if case["kind"] == "error":
        assert 1 <= code <= 127
        assert said.strip()
        assert not output.exists()
        return
    if case["kind"] == "degraded":
        assert said.strip(), "damage was not reported"
        if code:
            assert 1 <= code <= 127
            assert not output.exists()
            return
    assert code == 0, said
    network = ["--net"] if model == "auto" else []
    result = judge(source, output, _options(case) + network)
    assert result["ok"], json.dumps(
        {name: result["checks"].get(name) for name in result["fail"]}, default=str
    )


@pytest.mark.parametrize("case", MODELS, ids=lambda c: c["file"])
def test_hostile_model(case, media, film, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    model = str(media / case["file"])
    code = run(["upscale", str(film), "-s", "2", "--model-path", model, "-o", "x.mkv"])
    assert 1 <= code <= 127
    assert "Traceback" not in capfd.readouterr().err
    assert list(Path().iterdir()) == []

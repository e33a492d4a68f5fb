"""Rules of the house that no linter knows."""

import ast
import importlib
import inspect
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

import vsr
from tests import conftest
from tests.media import REPO
from vsr import errors

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))
SOURCES = sorted((REPO / "vsr").rglob("*.py"))
MINE = {".py", ".toml", ".md", ".txt", ".vpy", ".json", ""}
LEFT_OUT = {".git", ".venv", "out", "build", "dist"}


def committed() -> list[Path]:
    """Text files of the project, with or without git at hand."""
    return [
        path
        for path in sorted(REPO.rglob("*"))
        if path.is_file()
        and path.suffix in MINE
        and not LEFT_OUT & set(path.relative_to(REPO).parts)
        and not any(
            part.endswith(("_cache", "__pycache__")) or part == ".hypothesis"
            for part in path.relative_to(REPO).parts
        )
    ]


def described(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's docstring."""
    text = ast.get_docstring(node, clean=False)
    return 0 if text is None else len(text.splitlines())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_one_idea_a_file_and_a_function(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400, "more than 400 lines are two ideas: split the file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - described(node)
            assert lines <= 60, f"{node.name} has {lines} lines: split it"


def test_no_file_names_a_place_of_one_machine() -> None:
    places = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    found = [
        f"{path.relative_to(REPO)}: {line.strip()}"
        for path in committed()
        for line in path.read_text("utf-8").splitlines()
        if places.search(line)
    ]
    assert not found


def test_the_error_tree_is_the_one_in_its_docstring() -> None:
    classes = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    drawn = re.findall(
        r"^ {4}([│├└─ ]*)(\w+Error)(?: +\((\w+)\))?", errors.__doc__ or "", re.MULTILINE
    )
    assert [name for _, name, _ in drawn] == list(classes)
    parents: list[str] = []
    for branch, name, builtin in drawn:
        depth = len(branch) // 4
        bases = [base.__name__ for base in classes[name].__bases__]
        if depth:
            assert bases == [parents[depth - 1], *([builtin] if builtin else [])]
        parents[depth:] = [name]
        assert 1 <= classes[name].exit_code <= 255


def test_every_public_name_is_there_and_documented() -> None:
    for name in vsr.__all__:
        value = getattr(vsr, name)
        assert name in dir(vsr)
        assert name == "__version__" or inspect.getdoc(value), f"vsr.{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'upscael'"):
        vsr.upscael  # noqa: B018 - looking it up is the test


def test_one_version() -> None:
    assert PROJECT["project"]["version"] == vsr.__version__


def test_constraints_pin_every_dependency_and_name_no_place() -> None:
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[\w.!+]+", version) for version in pins.values())
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name], prereleases=True)
    assert not list(REPO.glob("*.lock"))


def test_markers_that_may_skip_are_declared() -> None:
    declared = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert declared == {*conftest.MISSING, "slow"}


@pytest.mark.parametrize("forbidden", [False, True])
def test_a_skip_can_be_forbidden(forbidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conftest.MISSING, "gpu", lambda: "no device")
    monkeypatch.setenv("VSR_NO_SKIP", "ffmpeg gpu" if forbidden else "ffmpeg")
    item = SimpleNamespace(get_closest_marker=lambda name: name == "gpu" or None)
    expected = pytest.fail.Exception if forbidden else pytest.skip.Exception
    with pytest.raises(expected, match="no device"):
        conftest.pytest_runtest_setup(item)


def test_a_misspelt_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSR_NO_SKIP", "ffmepg")
    with pytest.raises(pytest.UsageError, match="ffmepg"):
        conftest.pytest_configure()


def test_no_test_leaves_the_machine() -> None:
    with socket.socket() as plug, pytest.raises(RuntimeError, match=r"192\.0\.2\.1"):
        plug.connect(("192.0.2.1", 80))


LIGHT = "import sys, vsr, vsr.types, vsr.errors, vsr.pipeline, vsr.tiling, vsr.io.base"


def test_light_parts_do_not_import_heavy_ones() -> None:
    heavy = "{'torch', 'av', 'click', 'tqdm', 'vapoursynth'}"
    code = (
        f"{LIGHT}; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_module_imports(path: Path) -> None:
    parts = path.relative_to(REPO).with_suffix("").parts
    if parts[-1] != "__main__":
        importlib.import_module(".".join(parts).removesuffix(".__init__"))


@pytest.mark.skipif(os.name == "nt", reason="no executable bits")
@pytest.mark.parametrize("name", ["scripts/check", ".ci/run"])
def test_scripts_can_be_called(name: str) -> None:
    assert os.access(REPO / name, os.X_OK)

"""`vsr models`: list, get, path, verify, and what a job downloads before it begins."""

import hashlib
import io
import json
import sys
from fractions import Fraction

import pytest

from vsr.checkpoints import cache
from vsr.cli import download
from vsr.cli.main import run
from vsr.models import catalog

DATA = b"weights" * 1000


def entry(name, **changes):
    facts = {
        "name": name,
        "architecture": "compact",
        "scale": 4,
        "licence": "MIT",
        "purpose": "tests",
        "url": f"https://host/{name}.pth",
        "size": len(DATA),
        "sha256": hashlib.sha256(DATA).hexdigest(),
    }
    return catalog.Published(**facts | changes)


ENTRIES = (
    entry("strong", aliases=("alias",), denoise_twin="weak"),
    entry("weak"),
    entry("loose", sha256=None),
    entry("pair-x2", family="pair", scale=2),
    entry("pair-x4", family="pair", scale=4),
    entry("cloudy", url=None, page="https://host/cloud", sha256=None, size=None),
)


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """A cache of its own, a small catalogue, and a server that always has the file."""
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    monkeypatch.delenv("VSR_OFFLINE", raising=False)
    monkeypatch.setattr(catalog, "published", lambda: ENTRIES)

    def fake_download(url, path, *, report=None, **_):
        assert url.startswith("https://host/")
        for done in (len(DATA) // 2, len(DATA)):
            if report is not None:
                report(done, len(DATA))
        path.write_bytes(DATA)
        return hashlib.sha256(DATA).hexdigest()

    monkeypatch.setattr(cache, "download", fake_download)
    return tmp_path / "models"


def names(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def test_list_says_where_each_model_is(capsys):
    assert run(["models", "get", "weak"]) == 0
    capsys.readouterr()
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["name", "scale", "architecture"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert "download" in rows["strong"]
    assert "cached" in rows["weak"]
    assert "by hand" in rows["cloudy"]
    assert {"bicubic", "lanczos"} <= rows.keys()


def test_list_as_json(capsys):
    assert run(["models", "list", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first["name"] == "strong"
    assert first["aliases"] == ["alias"]
    assert first["where"] == "download"
    assert first["path"].endswith("strong.pth")


def test_get_brings_the_twin_too(capsys, shelf):
    assert run(["models", "get", "ALIAS"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(shelf / "strong.pth"), str(shelf / "weak.pth")]
    assert "downloading strong (6.84 KiB) from https://host/strong.pth" in err
    assert run(["models", "get", "alias"]) == 0
    assert capsys.readouterr().err == ""


def test_get_quietly(capsys):
    assert run(["models", "get", "weak", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_get_brings_all_scales_of_a_family(shelf):
    assert run(["models", "get", "pair"]) == 0
    assert names(shelf) == ["pair-x2.pth", "pair-x4.pth"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "no-such"], "no-such"),
        (["get", "weak", "--offline"], "offline"),
        (["get", "loose"], "confirmed"),
        (["get", "cloudy", "--yes"], "by hand from https://host/cloud, then name the file"),
        (["path", "weak"], "vsr models get weak"),
        (["verify", "weak"], "weak is absent"),
    ],
)
def test_refusals_are_one_line_and_5(capsys, shelf, arguments, words):
    assert run(["models", *arguments]) == 5
    error = capsys.readouterr().err
    assert error.startswith("vsr: error: ")
    assert error.count("\n") == 1
    assert words in error
    assert not names(shelf)


def test_unpinned_models_need_a_yes(shelf):
    assert run(["models", "get", "loose", "--yes"]) == 0
    assert names(shelf) == ["loose.pth"]


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 5), ("", 130)])
def test_a_terminal_is_asked(monkeypatch, answer, code):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert run(["models", "get", "loose"]) == code


def test_path_prints_the_file(capsys, shelf):
    assert run(["models", "get", "weak"]) == 0
    capsys.readouterr()
    assert run(["models", "path", "weak"]) == 0
    assert capsys.readouterr().out == f"{shelf / 'weak.pth'}\n"


def test_verify_finds_damage(capsys, shelf):
    assert run(["models", "verify"]) == 0
    assert run(["models", "get", "weak", "strong"]) == 0
    capsys.readouterr()
    assert run(["models", "verify"]) == 0
    assert capsys.readouterr().out.split() == ["strong", "good", "weak", "good"]
    (shelf / "weak.pth").write_bytes(DATA[:-1] + b"x")
    assert run(["models", "verify"]) == 5
    out, err = capsys.readouterr()
    assert "damaged" in out
    assert "weak is damaged" in err


@pytest.mark.parametrize(
    ("name", "scale", "denoise", "files"),
    [
        ("weak", None, False, ["weak.pth"]),
        ("strong", 2, False, ["strong.pth"]),
        ("strong", 2, True, ["strong.pth", "weak.pth"]),
        ("pair", 2, False, ["pair-x2.pth"]),
        ("pair", 3, False, ["pair-x4.pth"]),
        ("pair", None, False, []),
        ("auto", 2, False, []),
        ("bicubic", 2, False, []),
    ],
)
def test_a_job_downloads_what_it_needs_first(shelf, name, scale, denoise, files):
    factor = None if scale is None else Fraction(scale)
    download.fetch_for(name, factor, denoise=denoise)
    assert names(shelf) == files


def test_the_bar_of_a_download(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run(["models", "get", "weak"]) == 0
    assert "downloading" not in sys.stderr.getvalue()

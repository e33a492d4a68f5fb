"""What the texts of options mean, and which files they name."""

import os
from fractions import Fraction
from pathlib import Path

import click
import pytest

from vsr.cli.naming import Naming, expand, extension
from vsr.cli.values import (
    DeviceType,
    GpuType,
    ModelType,
    PairType,
    Size,
    SizeType,
    TileType,
    TimeType,
)
from vsr.errors import SourceNotFoundError, UnsupportedSourceError, UsageError


def read(kind, text):
    return kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4", Size(text="x4", scale=Fraction(4))),
        ("x2", Size(text="x2", scale=Fraction(2))),
        ("2x", Size(text="x2", scale=Fraction(2))),
        ("1.5", Size(text="x1.5", scale=Fraction(3, 2))),
        ("0.1", Size(text="x0.1", scale=Fraction(1, 10))),
        ("4/3", Size(text="x1.333", scale=Fraction(4, 3))),
        ("16", Size(text="x16", scale=Fraction(16))),
        ("1080p", Size(text="1080p", height=1080)),
        ("4K", Size(text="4k", height=2160)),
        ("640x360", Size(text="640x360", width=640, height=360)),
        ("640×361", Size(text="640x361", width=640, height=361)),
    ],
)
def test_sizes(text, size):
    assert read(SizeType(), text) == size


@pytest.mark.parametrize(
    "text",
    ["0", "-2", "16.1", "nan", "inf", "1e3", "", "x", "0p", "0x90", "99999x2", "2k", "1/0", "٤"],
)
def test_impossible_sizes(text):
    with pytest.raises(click.BadParameter):
        read(SizeType(), text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", Fraction(90)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("90:30", Fraction(5430)),
        ("1:30", Fraction(90)),
        ("01:02:03.004", Fraction(3_723_004, 1000)),
    ],
)
def test_times_are_exact(text, seconds):
    assert read(TimeType(), text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1:60", "1:60:00", "1:2:3:4", "1m30s", "nan", "1e2", "1."]
)
def test_impossible_times(text):
    with pytest.raises(click.BadParameter):
        read(TimeType(), text)


def test_pairs_keep_later_equals_signs():
    assert read(PairType(), "x265-params=a=1:b=2") == ("x265-params", "a=1:b=2")
    assert read(PairType(), "key=") == ("key", "")
    for text in ("key", "=value", ""):
        with pytest.raises(click.BadParameter):
            read(PairType(), text)


def test_words_of_other_programs_are_explained():
    with pytest.raises(click.BadParameter, match="-s is the scale"):
        read(ModelType(), "4")
    with pytest.raises(click.BadParameter, match="-n names the model"):
        read(TileType(), "realesrgan")


def test_tiles_and_devices():
    assert read(TileType(), "0") == 0
    assert read(TileType(), "256") == 256
    for text in ("-1", "8", "1.5", "auto"):
        with pytest.raises(click.BadParameter):
            read(TileType(), text)
    assert read(DeviceType(), "CUDA:1") == "cuda:1"
    for text in ("gpu", "cuda:", "cuda:x", "0"):
        with pytest.raises(click.BadParameter):
            read(DeviceType(), text)


@pytest.mark.parametrize(
    ("kind", "text", "devices"),
    [
        (DeviceType(several=True), "cpu", "cpu"),
        (DeviceType(several=True), "auto", "auto"),
        (DeviceType(several=True), "CUDA:0, cuda:1 ,cpu", "cuda:0,cuda:1,cpu"),
        (DeviceType(several=True), "cpu,cpu", "cpu,cpu"),
        (GpuType(), "0", "cuda:0"),
        (GpuType(), "-1", "cpu"),
        (GpuType(), "1,00, -1", "cuda:1,cuda:0,cpu"),
    ],
)
def test_several_devices(kind, text, devices):
    assert read(kind, text) == devices
    assert read(kind, text) == read(DeviceType(several=True), devices)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (DeviceType(), "cpu,cpu", "is no device"),
        (DeviceType(several=True), "", "is no device"),
        (DeviceType(several=True), "cuda:0,,cpu", "names no device in one place"),
        (DeviceType(several=True), "cpu,", "names no device in one place"),
        (DeviceType(several=True), "cpu,gpu", "gpu in cpu,gpu"),
        (DeviceType(several=True), "auto,cpu", "auto cannot be one"),
        (DeviceType(several=True), "cuda,cpu,cuda:0", "cuda:0 is named twice"),
        (GpuType(), "0,1,0", "cuda:0 is named twice"),
        (GpuType(), "0,", "no list of GPUs"),
        (GpuType(), "-2", "no list of GPUs"),
        (GpuType(), "cuda:0", "no list of GPUs"),
    ],
)
def test_several_devices_that_cannot_be_are_one_line(kind, text, words):
    with pytest.raises(click.BadParameter, match=words) as caught:
        read(kind, text)
    assert "\n" not in caught.value.message


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.mp4", "a.mp4", "c.mkv", "a[1].mp4", "what?.mp4", "-dash.mp4", "50%03d.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(paths):
    return [str(path) for path in paths]


@pytest.mark.usefixtures("folder")
def test_patterns_are_expanded_in_order_and_without_folders():
    assert names(expand(["[ab].mp4"])) == ["a.mp4", "b.mp4"]
    assert names(expand(["c*", "s*", "c.mkv"][::2])) == ["c.mkv"]
    assert len(expand(["*"])) == 7


@pytest.mark.parametrize("name", ["a[1].mp4", "what?.mp4", "-dash.mp4", "50%03d.mp4"])
@pytest.mark.usefixtures("folder")
def test_names_that_exist_win_over_patterns(name):
    assert names(expand([name])) == [name]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("none.mp4", SourceNotFoundError, "no such file"),
        ("*.avi", SourceNotFoundError, "no file matches"),
        ("sub", UnsupportedSourceError, "is a folder"),
        ("s*", SourceNotFoundError, "no file matches"),
        ("-", UnsupportedSourceError, "standard input"),
        ("frame%04d.mkv", UnsupportedSourceError, "numbered"),
        ("https://host/film.mp4", UnsupportedSourceError, "--allow-url"),
        ("", SourceNotFoundError, "no such file"),
        ("x" * 300, SourceNotFoundError, "no such file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_inputs_that_are_no_files(text, error, words):
    with pytest.raises(error, match=words):
        expand([text])


def test_a_dangling_link_is_refused(folder):
    (folder / "link.mp4").symlink_to("gone.mp4")
    with pytest.raises(SourceNotFoundError, match=r"link\.mp4"):
        expand(["link.mp4"])


def target(source, **settings):
    chosen = {"output": None, "suffix": "_x4", "extension": None} | settings
    return str(Naming(**chosen).targets([Path(source)])[0])


@pytest.mark.usefixtures("folder")
def test_outputs_are_named_beside_the_input():
    assert target("films/a.b.mp4") == str(Path("films/a.b_x4.mkv"))
    assert target("a.mp4", extension=".mp4", suffix="_big") == "a_big.mp4"
    assert target("photo.JPG") == "photo_x4.png"
    assert target("a.mp4", output="sub") == str(Path("sub/a_x4.mkv"))
    assert target("a.mp4", output="sub/{name}_2.webm") == str(Path("sub/a_2.webm"))
    assert target("a.mp4", output="odd {n}.mkv") == "odd {n}.mkv"
    assert target("a.mp4", output="out.mp4", extension=".mp4") == "out.mp4"


@pytest.mark.usefixtures("folder")
def test_outputs_that_contradict_are_refused():
    with pytest.raises(UsageError, match="contradict"):
        target("a.mp4", output="out.mkv", extension=".mp4")
    with pytest.raises(UsageError, match="does not exist"):
        target("a.mp4", output="nowhere" + os.sep)
    many = [Path("a.mp4"), Path("b.mp4")]
    with pytest.raises(UsageError, match="several inputs"):
        Naming(output="out.mkv", suffix="_x4", extension=None).targets(many)
    with pytest.raises(UsageError, match="both become"):
        Naming(output="sub", suffix="_x4", extension=None).targets([Path("a.mp4"), Path("a.mkv")])
    with pytest.raises(UsageError, match="one of the inputs"):
        Naming(output=None, suffix="", extension=".mp4").targets(many)


def test_suffixes():
    assert extension("mp4", None) == ".mp4"
    assert extension(".MOV", None) == ".MOV"
    assert extension("auto", None) is None
    assert extension(None, "matroska") == ".mkv"
    assert extension("webm", "mkv") == ".webm"
    with pytest.raises(UsageError, match="suffix"):
        extension("../x", None)

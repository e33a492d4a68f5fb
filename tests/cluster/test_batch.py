"""`vsr batch` over lists and folders, and what is said of clusters that are not there."""

import socket
from pathlib import Path

import pytest

from tests import media
from vsr.cli import batch, cluster
from vsr.cli.base import Command
from vsr.cli.main import run as vsr_command
from vsr.cli.progress import Summary
from vsr.cli.signals import Stop
from vsr.cluster import connecting, driver, packing, rays
from vsr.cluster.crew import Errand
from vsr.cluster.worker import Facts, difference, own_versions
from vsr.errors import DeviceError, ToolError, UsageError
from vsr.parts import Part
from vsr.planning import UpscaleJob


@pytest.fixture
def batched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is there even where the group does not name it yet."""
    from vsr.cli import group

    if "batch" not in group._COMMANDS:
        monkeypatch.setattr(group, "_COMMANDS", (*group._COMMANDS, "batch"))


@pytest.fixture
def films(folder: Path) -> Path:
    """A folder with two videos, one of them deeper, a list and something else."""
    (folder / "in" / "deep").mkdir(parents=True)
    media.clip(folder / "in" / "a.mkv", frames=3, size=(32, 24))
    media.clip(folder / "in" / "deep" / "b.mp4", frames=2, size=(32, 24))
    (folder / "in" / "notes.md").write_text("no video")
    (folder / "in" / "all.txt").write_text("# both\na.mkv\n\ndeep/b.mp4\n")
    return folder


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize(
    ("place", "made"),
    [
        (["in"], ["a_x2.mkv"]),
        (["in", "-r"], ["a_x2.mkv", "b_x2.mkv"]),
        (["in/all.txt"], ["a_x2.mkv", "b_x2.mkv"]),
        (["in/a.mkv", "in/a.mkv"], ["a_x2.mkv"]),
    ],
)
def test_lists_and_folders_are_upscaled_once(
    films: Path, place: list[str], made: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (films / "out").mkdir()
    command = ["batch", *place, "-s", "2", "-n", "bicubic", "-o", "out", "--no-verify"]
    assert vsr_command(command) == 0
    assert sorted(path.name for path in (films / "out").iterdir()) == made
    capfd.readouterr()
    assert vsr_command(command) == 0
    assert "are there already and stay" in capfd.readouterr().err


@pytest.mark.usefixtures("batched", "films")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing"], 3, "no such file: nothing"),
        (["in/deep", "in/notes.md", "--cluster", "there"], 2, "HOST:PORT"),
        (["in/deep", "--cluster", "http://there:1"], 2, "HOST:PORT"),
        (["in/deep", "--cluster", "ray://here:port"], 2, "HOST:PORT"),
        (["in/deep", "-d", "cuda:3", "--cluster", "auto"], 2, "one machine"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str],
    code: int,
    words: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoRay:
        @staticmethod
        def is_initialized() -> bool:
            return False

    monkeypatch.setattr(connecting, "load_ray", lambda: NoRay)
    assert vsr_command(["batch", *arguments, "-s", "2", "-n", "bicubic"]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize(
    ("text", "words"),
    [("", "names no file"), ("gone.mkv\n", "names gone.mkv"), (None, "no list of files")],
)
def test_a_list_that_is_none_is_one_line(
    folder: Path, text: str | None, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00" if text is None else text.encode())
    assert vsr_command(["batch", "list.txt", "-s", "2"]) == 3
    assert words in capfd.readouterr().err


def test_nobody_answers_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoRay:
        @staticmethod
        def is_initialized() -> bool:
            return False

    monkeypatch.setattr(connecting, "load_ray", lambda: NoRay)
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{plug.getsockname()[1]}"
        with pytest.raises(DeviceError, match="no Ray cluster answers at ray://127"):
            rays.connect(address)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(connecting.importlib, "import_module", absent)
    with pytest.raises(ToolError, match=r"pip install 'vsr\[ray\]'"):
        rays.RayCrew()


def test_an_address_as_source_is_refused(tmp_path: Path) -> None:
    job = UpscaleJob(source="https://host/film.mkv", target=tmp_path / "o.mkv", model="bicubic")
    with pytest.raises(UsageError, match="download it to a folder that all nodes share"):
        driver.on_shared_paths(job)


def test_what_one_machine_alone_can_do_is_refused(tmp_path: Path, film: Path) -> None:
    from tests.cluster.test_parts import InlineCrew

    job = UpscaleJob(source=film, target=tmp_path / "o.mkv", scale=2, profile=tmp_path / "t.json")
    with pytest.raises(UsageError, match=r"--profile traces .* one process.*`ray timeline`"):
        driver.run(job, InlineCrew())
    pictures = UpscaleJob(source=film, target=tmp_path / "%03d.png", scale=2, model="bicubic")
    with pytest.raises(UsageError, match="pictures, which have no segments"):
        driver.run(pictures, InlineCrew())


def test_nodes_with_other_versions_are_named() -> None:
    here = Facts(host="here", versions=own_versions(), device="cpu")
    assert difference(here, here) is None
    for name in here.versions:
        there = Facts(host="there", versions={**here.versions, name: "0"}, device="cpu")
        text = difference(here, there)
        assert text is not None
        assert text.startswith(f"node there has {name} 0, this machine has ")


def errand(frames: int | None) -> Errand:
    times = None if frames is None else tuple(range(frames))
    return Errand(
        film=0, name="a", recipe=None, model="m", part=Part(number=0, times=times), way={}, era=0
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "sizes"),
    [
        ([10, 10], [1, 1]),
        ([3, 3, 3, 3], [3, 1]),
        ([None, 1, 1], [1, 2]),
        ([1, 10, 1], [1, 1, 1]),
        ([], []),
    ],
)
def test_packs_are_no_larger_than_a_segment(frames: list[int | None], sizes: list[int]) -> None:
    made = list(packing.packs([(errand(each), 10) for each in frames]))
    assert [len(pack) for pack in made] == sizes
    assert sum(sizes) == len(frames)


def test_many_files_show_themselves_as_one(
    films: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.cluster.test_parts import InlineCrew

    monkeypatch.setattr(rays, "RayCrew", lambda *_, **__: InlineCrew())
    (films / "in" / "deep" / "b.mp4").write_bytes(b"broken")
    made = [
        UpscaleJob(source=path, target=films / f"{path.stem}.mkv", scale=2, model="bicubic")
        for path in (Path("in/a.mkv"), Path("in/deep/b.mp4"))
    ]
    assert cluster.run_all(made, "auto", Summary(), Stop()) == 3
    told = capfd.readouterr().err
    assert "a.mkv: 3 frames of 64x48" in told
    assert "1 of 2 files failed" in told
    again = [made[0].__class__(source=made[0].source, target=films / "c.mkv", scale=2)]
    assert cluster.run_all(again, "auto", Summary(), Stop()) == 0
    assert "c.mkv: 3 frames" in capfd.readouterr().err


def test_the_help_names_the_option() -> None:
    assert isinstance(batch.command, Command)
    assert "--cluster" in {name for option in batch.command.params for name in option.opts}

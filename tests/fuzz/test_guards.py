"""CONTRACT 23 to 27, the promises about hostile input: guards that no other test would miss.

Those that are tested beside what they guard: 23 in test_checkpoints_reading and _foreign, 24 in
test_checkpoints_cache, 25 and 26 in test_reader_open.
"""

import ast
import io
import pickle
import struct
import zipfile
import zlib
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from tests import media
from tests.pipes import fed
from vsr.api import upscale
from vsr.checkpoints import read_checkpoint, reading
from vsr.errors import CheckpointError, SourceError, UnsupportedSourceError
from vsr.io import inspection
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.open import open_input
from vsr.io.rawvideo import RawSource, parse_raw
from vsr.io.stream_source import StreamSource
from vsr.io.y4m import Y4mSource
from vsr.models import architecture, build

SOURCES = sorted((media.REPO / "vsr").rglob("*.py"))


@cache
def calls() -> tuple[tuple[str, str, ast.Call], ...]:
    """(file, called name, call) of everything that the package calls by a plain or dotted name."""
    return tuple(
        (path.name, ast.unparse(node.func), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    )


def keywords(call: ast.Call) -> dict[str | None, object]:
    return {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}


# 23: checkpoints


class Evil:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def checkpoint(path: Path, program: bytes, *, zipped: bool) -> Path:
    """A file whose pickle is given."""
    if not zipped:
        heads = [
            pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        ]
        path.write_bytes(b"".join([*heads, program, pickle.dumps([], 2)]))
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/version", b"3\n")
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_23_code_would_not_run_even_if_its_opcodes_were_not_seen(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("check_zipped", "check_bare"):
        monkeypatch.setattr(reading, name, lambda _: None)
    program = pickle.dumps({"w": Evil(tmp_path / "PWNED")}, 2)
    with pytest.raises(CheckpointError, match="code in a checkpoint is never run"):
        read_checkpoint(checkpoint(tmp_path / "a.pth", program, zipped=zipped))
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("program", "named"),
    [
        (b"\x80\x02}X\x01\0\0\0wcbuiltins\nbytearray\nJ\0\0\0\x10\x85Rs.", "builtins.bytearray"),
        (b"\x80\x02}X\x01\0\0\0wctorch\nTensor\nJ\0\0\0\x10\x85Rs.", "torch.Tensor"),
        (b"\x80\x02ctorch.storage\nUntypedStorage\nJ\0\0\0\x10\x85R.", "UntypedStorage"),
        (b"\x80\x02}X\x01\0\0\0wctorch\nFloatTensor\nJ\0\0\0\x10\x85\x81s.", "torch.FloatTensor"),
        (b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n.", "_rebuild_wrapper_subclass"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "STACK_GLOBAL"),
        (b"\x80\x02(ios\nsystem\n.", "INST"),
    ],
)
def test_23_nothing_is_made_that_weights_do_not_need(
    program: bytes, named: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A hundred bytes could otherwise ask for gigabytes."""
    monkeypatch.setattr(reading.torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(CheckpointError, match=named):
        read_checkpoint(checkpoint(tmp_path / "a.pth", program, zipped=zipped))


def test_23_records_may_not_overlap(tmp_path: Path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/data.pkl", "a/data/0", "a/version"):
            archive.writestr(name, b"\x80\x02}.")
        archive.filelist[1].header_offset = archive.filelist[0].header_offset
    with pytest.raises(CheckpointError, match="overlap or lie"):
        read_checkpoint(path)


def test_23_there_is_no_other_way_in():
    loads = [(file, keywords(call)) for file, name, call in calls() if name == "torch.load"]
    assert loads
    assert all(given.get("weights_only") is True for _, given in loads)
    arrays = [keywords(call) for _, name, call in calls() if name == "np.load"]
    assert all(given.get("allow_pickle") is False for given in arrays)
    forbidden = {"torch.jit.load", "pickle.load", "pickle.loads", "joblib.load", "dill.load"}
    assert not forbidden & {name for _, name, _ in calls()}


def tiny(name: str, **sizes: int) -> tuple[dict[str, torch.Tensor], Any]:
    from dataclasses import replace

    arch = architecture(name)
    config = replace(min(arch.parameters, key=lambda pair: pair[1])[0], **sizes)
    return dict(arch.build(config).state_dict()), config


@pytest.mark.parametrize(
    ("name", "sizes", "config"),
    [
        ("drrn", {"features": 3, "units": 2}, '{"units": 5000}'),
        ("drrn", {"features": 3, "units": 2}, '{"units": 0}'),
        ("fsrcnn", {"features": 4, "mapped": 2}, '{"scale": 0}'),
        ("espcn", {"features": 3, "mapped": 2}, '{"luma": "x"}'),
        ("espcn", {"features": 3, "mapped": 2}, '{"colour": "\\n"}'),
        ("wdsr", {"features": 4, "expanded": 6, "blocks": 1}, '{"residual_scale": NaN}'),
        ("espcn", {"features": 3, "mapped": 2}, '{"features": "\\u001b[2J\\n"}'),
    ],
)
def test_23_a_header_cannot_ask_for_a_network_that_nobody_has(
    name: str, sizes: dict[str, int], config: str
):
    state, _ = tiny(name, **sizes)
    with pytest.raises(CheckpointError) as caught:
        build(state, {"architecture": name, "config": config})
    assert str(caught.value).isprintable()


def test_23_shapes_are_compared_before_the_network_takes_memory(monkeypatch: pytest.MonkeyPatch):
    state, _ = tiny("compact", features=4, convs=1, scale=2)
    made: list[str] = []
    plain = torch.nn.Conv2d.__init__

    def spied(self: torch.nn.Conv2d, *args: Any, **kwargs: Any) -> None:
        made.append(torch.get_default_device().type)
        plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Conv2d, "__init__", spied)
    with pytest.raises(CheckpointError, match="shape"):
        build(state | {"body.0.bias": torch.zeros(5)}, {"architecture": "compact"})
    assert set(made) <= {"meta"}


@pytest.mark.parametrize("kind", ["zlib", "lzma", "encrypted", "header"])
def test_23_archives_of_arrays_are_as_numpy_writes_them(kind: str, tmp_path: Path):
    path = tmp_path / "a.npz"
    method = zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_DEFLATED
    array = b"\x93NUMPY\x01\0\x10\0" + b"(\0\0\0" + bytes(12) if kind == "header" else bytes(200)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", array)
    data = bytearray(path.read_bytes())
    if kind == "zlib":
        data[35:38] = b"\xff\xff\xff"
    if kind == "encrypted":
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def record(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize("shape", [(2000, 2000), (1,) * 65, (0, *(2**31,) * 5)])
def test_23_a_graph_cannot_unfold(shape: tuple[int, ...], tmp_path: Path):
    """One value may stand for a whole constant, and there may be thousands of constants."""
    sides = b"".join(record(2, b"\x08" + varint(side)) for side in shape)
    tensor = b"\x08\x01" + record(2, sides) + record(4, bytes(4))
    value = record(5, record(1, b"value") + record(2, record(8, tensor)))
    node = record(1, record(1, b"alpha1") + record(2, b"Const") + value)
    (tmp_path / "a.pb").write_bytes(node * 3)
    with pytest.raises(CheckpointError, match=r"dimensions|refused|bytes in"):
        read_checkpoint(tmp_path / "a.pb")


def test_23_packed_matrices_share_one_limit(tmp_path: Path):
    """Each would pass alone."""
    packed = zlib.compress(struct.pack("<II", 1, 1 << 16) + bytes(1 << 16))
    body = (struct.pack("<II", 15, len(packed)) + packed) * 40
    header = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "a.mat").write_bytes(header + body)
    with pytest.raises(CheckpointError, match="unpacks to more"):
        read_checkpoint(tmp_path / "a.mat")


# 25: media files open nothing else


def test_25_protocols_and_formats_are_given_to_ffmpeg(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = media.clip(tmp_path / "a.mkv", codec="ffv1", frames=2).read_bytes()
    told: list[tuple[Any, dict[str, str]]] = []
    plain = av.open

    def spied(file: Any, *args: Any, **kwargs: Any) -> Any:
        told.append((file, kwargs["options"]))
        return plain(file, *args, **kwargs)

    monkeypatch.setattr(av, "open", spied)
    monkeypatch.chdir(film.parent)
    open_input(film.name).close()
    StreamSource(fed(data), "matroska").close()
    (name, file), (_, stream) = told
    assert name == f"file:{film}"
    assert file["protocol_whitelist"] == "file"
    assert stream["protocol_whitelist"] == "none"
    assert set(stream["format_whitelist"].split(",")) == {"nut", "matroska", "webm"}
    lists = {"hls", "concat", "dash", "sdp", "rtsp", "imf", "webvtt", "tedcaptions", "lavfi"}
    assert not lists & set(file["format_whitelist"].split(","))
    assert file["pattern_type"] == "none"


def test_25_a_playlist_is_told_from_a_broken_file(tmp_path: Path):
    (tmp_path / "a.mkv").write_text("#EXTM3U\n/etc/passwd\n", "ascii")
    with pytest.raises(UnsupportedSourceError, match="names other files"):
        open_input(tmp_path / "a.mkv")


# 26: no shell, any name


def test_26_no_shell():
    names = {name for _, name, _ in calls()}
    assert not {"os.system", "os.popen", "subprocess.getoutput", "eval", "exec"} & names
    started = [call for _, name, call in calls() if name.startswith("subprocess.")]
    assert started
    assert not any("shell" in {k.arg for k in call.keywords} for call in started)


@pytest.mark.parametrize(
    "stem", ["-rf", "a'\"$(id)`x`;&", "shot%03d", "C:time 12:30", "x" * 236, "üñï 电影 🎬"]
)
def test_26_any_name_in_and_out(stem: str, folder: Path):
    media.clip(folder / "a.mkv", codec="ffv1", frames=2, size=(16, 8))
    (folder / "a.mkv").rename(folder / f"{stem}.mkv")
    (folder / "out").mkdir()
    upscale(f"./{stem}.mkv", folder / "out" / f"{stem}.mkv", model="nearest", scale=2, device="cpu")
    assert [path.name for path in (folder / "out").iterdir()] == [f"{stem}.mkv"]
    assert len(media.decoded(folder / "out" / f"{stem}.mkv")) == 2


# 27: pixels are counted before memory is taken


def claimed(path: Path, width: int, height: int) -> Path:
    """A PNG of one gray row of zeros that claims another size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        packed = struct.pack(">I", len(content)) + kind + content
        return packed + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = zlib.compress(bytes(width + 1))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_27_fixed_places_are_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("FFmpeg was asked"))
    with pytest.raises(UnsupportedSourceError, match="16384x16384"):
        open_source(claimed(tmp_path / "a.png", 1 << 14, 1 << 14))
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W99999 H99999 F25:1\nFRAME\n")
    with pytest.raises(UnsupportedSourceError, match="99999x99999"):
        open_source(tmp_path / "a.y4m")


def test_27_headers_of_containers(tmp_path: Path):
    path = media.clip(tmp_path / "a.mkv", frames=2, size=(64, 48))
    with pytest.raises(UnsupportedSourceError, match=r"claims 64x48.*--max-pixels"):
        open_source(path, SourceOptions(max_pixels=3000))
    with pytest.raises(UnsupportedSourceError, match=r"claims 64x48.*limit"):
        StreamSource(fed(path.read_bytes()), "matroska", max_pixels=3000)
    with pytest.raises(UnsupportedSourceError, match="limit"):
        Y4mSource(fed(b"YUV4MPEG2 W64 H48\nFRAME\n"), max_pixels=3000)
    with pytest.raises(UnsupportedSourceError, match="limit"):
        RawSource(fed(b""), parse_raw("64x48:gray"), max_pixels=3000)


def growing(path: Path) -> Path:
    """Two pictures of 16×16, then one of 64×48."""
    packets = []
    for size, frames in (((16, 16), 2), ((64, 48), 1)):
        media.clip(path, codec="mjpeg", fmt="yuvj420p", frames=frames, size=size)
        packets += [data for _, data in media.packets(path, "video")]
    with av.open(path, "w") as file:
        stream = file.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        file.start_encoding()
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            file.mux(packet)
    return path


def test_27_a_picture_that_is_larger_than_its_container_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The decoders know the limit, and those that probe do too."""
    path = growing(tmp_path / "a.mkv")
    with open_source(path) as source, pytest.raises(SourceError, match="changes from 16x16"):
        list(source)
    told: list[str] = []
    plain = av.open

    def spied(*args: Any, **kwargs: Any) -> Any:
        told.append(kwargs["options"]["max_pixels"])
        return plain(*args, **kwargs)

    monkeypatch.setattr(av, "open", spied)
    monkeypatch.setattr(inspection, "_MAX_PIXELS", 1500)
    with open_source(path, SourceOptions(max_pixels=1500)) as source:
        assert len(list(source)) == 2
        assert source.damage.packets
    stream = StreamSource(fed(path.read_bytes()), "matroska", max_pixels=1500)
    assert len(list(stream)) == 2
    stream.close()
    reader = inspection.FrameReader(path, 0)
    assert len(list(reader.times())) == 2
    assert reader.errors
    reader.close()
    assert {"1500"} < set(told) == {"1500", str(1 << 27)}


def test_a_stream_without_decoder_is_refused(tmp_path: Path):
    """Found by fuzzing: PyAV gives it no context, or one that cannot be opened."""
    data = media.clip(tmp_path / "a.mkv", codec="ffv1", frames=2).read_bytes()
    broken = data.replace(b"V_FFV1", b"V_XXX1")
    assert broken != data
    (tmp_path / "b.mkv").write_bytes(broken)
    for index in (0, 7):
        with pytest.raises(SourceError, match="decode"):
            inspection.FrameReader(tmp_path / "b.mkv", index)
    with pytest.raises(UnsupportedSourceError):
        StreamSource(fed(broken), "matroska")


def test_a_recipe_of_endless_digits(tmp_path: Path):
    """Found by fuzzing: Python refuses to read them, which is no error of TOML."""
    from vsr.errors import UsageError
    from vsr.train.recipe import read_recipe
    from vsr.train.strict import override

    for text in ("version = " + "9" * 5000, "a = " + "[" * 5000):
        (tmp_path / "a.toml").write_text(text, "ascii")
        with pytest.raises(UsageError, match="cannot be read as TOML"):
            read_recipe(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text(f"version = 1\nseed = 0x{'f' * 9999}\ntitle = ''")
    with pytest.raises(UsageError, match="39996 bits"):
        read_recipe(tmp_path / "a.toml", ["network={}", "data={}", "stages=[]"])
    (tmp_path / "a.toml").write_text('version = 1\n"\\n" = 1')
    with pytest.raises(UsageError) as caught:
        read_recipe(tmp_path / "a.toml")
    assert str(caught.value).isprintable()
    table: dict[str, Any] = {}
    override(table, ["a=" + "9" * 5000])
    assert table == {"a": "9" * 5000}


def test_buffers_are_as_large_as_the_file(monkeypatch: pytest.MonkeyPatch):
    """Found by fuzzing: `read(4 GiB)` takes them at once, whatever the file has."""
    from vsr.checkpoints.containers import whole

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size == 5
            return super().read(size)

    assert whole(Watched(b"12345")) == b"12345"
    monkeypatch.setattr("vsr.checkpoints.containers.MOST_BYTES", 4)
    with pytest.raises(CheckpointError, match="at most 4"):
        whole(Watched(b"12345"))

"""What is fuzzed: every way in which bytes of others come into `vsr`."""
# ruff: noqa: PLC0415 - a target imports what it needs, and torch takes seconds

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from scripts.fuzzing import mutate
from scripts.fuzzing.mutate import Mutator

_MIB = 1 << 20
_PIXELS = 1 << 18
"""Most pixels of a picture while fuzzing, so that honest work is quick."""
_FRAMES = 60
SPLIT = b"\n=====\n"
"""Between the two files of one case."""

type Step = Callable[[Path], object]


def _one_file(folder: Path, data: bytes) -> Path:
    path = folder / "case.bin"
    path.write_bytes(data)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A way in.

    Attributes:
        name: Of the target.
        steps: What is done with a file, one after another; each may raise a `VsrError`.
        write: Puts a case into an empty folder and gives what the steps get.
        mutate: Changes a case.
        tokens: Pieces that mean something in the format.
        memory: How much resident memory may grow.
        longest: Bytes of the longest case.
        weights: Whether it needs torch.
    """

    name: str
    steps: tuple[Step, ...]
    write: Callable[[Path, bytes], Path] = _one_file
    mutate: Mutator = mutate.blind
    tokens: Sequence[bytes] = ()
    memory: int = 192 * _MIB
    longest: int = 1 << 16
    weights: bool = False


def _drained(frames: Iterable[object]) -> None:
    for _ in itertools.islice(frames, _FRAMES):
        pass


# ---- video files


def _limit_pixels(module: Any) -> None:
    """Lowers the default limit of a module that takes none from its caller."""
    from vsr.io.decoder import DecoderOptions
    from vsr.io.open import open_input

    limited = {
        "open_input": partial(open_input, max_pixels=_PIXELS),
        "DecoderOptions": partial(DecoderOptions, max_pixels=_PIXELS),
        "_MAX_PIXELS": _PIXELS,
    }
    for name in limited.keys() & vars(module).keys():
        setattr(module, name, limited[name])


def _probe(path: Path) -> None:
    from vsr.io import probe

    _limit_pixels(probe)
    probe.probe(path, count=True)


def _source(path: Path, **options: Any) -> None:
    from vsr.io.av_source import SourceOptions, open_source

    with open_source(path, SourceOptions(max_pixels=_PIXELS, threads=1, **options)) as source:
        _drained(source)


def _excerpt(path: Path) -> None:
    _source(path, start=Fraction(6), bake_rotation=True, deinterlace="on")


def _packets(path: Path) -> None:
    from vsr.io import inspection

    _limit_pixels(inspection)
    for log in inspection.read_packets(path, 0).logs.values():
        _ = log.span, log.last_duration, log.whole


def _thumbnails(path: Path) -> None:
    from vsr.io import inspection

    _limit_pixels(inspection)
    reader = inspection.FrameReader(path, 0)
    try:
        _drained(reader.thumbnails((16, 16)))
    finally:
        reader.close()


# ---- pictures


def _still(path: Path) -> None:
    from vsr.io.av_source import SourceOptions
    from vsr.io.stills import read_still

    read_still(path, SourceOptions(max_pixels=_PIXELS))


_BLANK: dict[str, bytes] = {}


def _tags(path: Path) -> None:
    from scripts.fuzzing.seeds import blank_pictures
    from vsr.io.picture_tags import read_tags, tags_for, with_tags

    tags = read_tags(path)
    made = tags_for(tags, (64, 48), "rgb", lambda _: None)
    if not _BLANK:
        _BLANK.update(blank_pictures())
    for data in _BLANK.values():
        with_tags(data, made, lambda _: None)


def _stills(path: Path) -> None:
    """The file as both pictures of a film."""
    from vsr.io.av_source import SourceOptions
    from vsr.io.folder import Stills
    from vsr.io.stills import StillsSource

    stills = Stills((path, path), Fraction(25), path.name)
    source = StillsSource(stills, SourceOptions(max_pixels=_PIXELS))
    try:
        _drained(source)
    finally:
        source.close()


# ---- pipes


def _y4m(path: Path) -> None:
    from vsr.io.ends import open_reader
    from vsr.io.y4m import Y4mSource

    with open_reader(str(path)) as reader:
        source = Y4mSource(reader, max_pixels=_PIXELS)
        source.header.answer(8, 8, progressive=True)
        _drained(source)


def _raw(path: Path) -> None:
    from vsr.io.ends import open_reader
    from vsr.io.rawvideo import RawSource, parse_raw

    with open_reader(str(path)) as reader:
        spec = parse_raw(reader.line(200).decode("utf-8", "replace").rstrip("\n"))
        _drained(RawSource(reader, spec, max_pixels=_PIXELS))


def _stream(path: Path) -> None:
    from vsr.io.ends import open_reader
    from vsr.io.stream_source import MAGICS, StreamSource

    with open_reader(str(path)) as reader:
        name = next((MAGICS[m] for m in MAGICS if reader.peek(len(m)) == m), "nut")
        source = StreamSource(reader, name, max_pixels=_PIXELS)
        try:
            for _ in itertools.islice(source, _FRAMES):
                _drained(source.aside())
        finally:
            source.close()


# ---- names, recipes, what the cache keeps


def _names(folder: Path, data: bytes) -> Path:
    """The first line is a pattern, the others are files in the folder."""
    pattern, *names = data.decode("utf-8", "replace").split("\n")[:12]
    for name in names:
        usable = name.replace("/", "").replace("\0", "")
        if usable not in {"", ".", ".."} and len(usable.encode()) <= 255:
            (folder / usable).touch()
    (folder / "pattern.txt").write_bytes(pattern.encode())
    return folder


def _pattern(folder: Path) -> None:
    from vsr.io.folder import is_pattern, natural_key, numbered, series

    text = (folder / "pattern.txt").read_bytes().decode().replace("\0", "") or "x"
    pattern = folder / text
    is_pattern(text)
    natural_key(Path(text))
    numbered(pattern, 12) if is_pattern(text) else None
    series(pattern)


def _listing(folder: Path) -> None:
    from vsr.io.folder import common_folder, pictures_in

    common_folder(pictures_in(folder, recursive=True))


def _recipe(path: Path) -> None:
    """Lines that begin with `#set ` are changes of the command line."""
    from vsr.train.data.settings import DataSettings
    from vsr.train.recipe import read_recipe
    from vsr.train.strict import structure

    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    recipe, _ = read_recipe(path, [line[5:] for line in lines if line.startswith("#set ")])
    structure(DataSettings, recipe.data, "data")


def _cache(path: Path) -> None:
    import os

    from vsr.engine import tuning
    from vsr.engine.engines.cache import EngineCache

    place = path.parent / "tuning.json"
    place.write_bytes(path.read_bytes())
    (path.parent / "a.engine").write_bytes(path.read_bytes())
    before = os.environ.get("VSR_CACHE")
    os.environ["VSR_CACHE"] = str(path.parent)
    try:
        tuning.remembered("key")
        EngineCache(path.parent).entries()
    finally:
        os.environ.pop("VSR_CACHE")
        if before is not None:
            os.environ["VSR_CACHE"] = before


# ---- checkpoints


def _checkpoint(path: Path) -> None:
    from vsr.checkpoints import read_checkpoint
    from vsr.models import architecture, architectures, build

    found = read_checkpoint(path)
    known = [architecture(name) for name in architectures()]
    # what no architecture claims would only be compared with all of them, for seconds
    if any(arch.detect(arch.canonicalise(found.state)) is not None for arch in known):
        build(found.state, found.metadata, Fraction(2))


def _ncnn(folder: Path, data: bytes) -> Path:
    param, _, weights = data.partition(SPLIT)
    (folder / "case.bin").write_bytes(weights)
    path = folder / "case.param"
    path.write_bytes(param)
    return path


_GLOBALS = """
    builtins:bytearray builtins:set builtins:complex builtins:exec builtins:getattr os:system
    collections:OrderedDict collections:Counter torch:FloatStorage torch:Size torch:device
    torch:Tensor torch.nn.parameter:Parameter torch._utils:_rebuild_tensor_v2
    torch._utils:_rebuild_tensor torch._utils:_rebuild_parameter torch._utils:_rebuild_qtensor
    torch._utils:_rebuild_sparse_tensor torch._utils:_rebuild_meta_tensor_no_storage
    torch._utils:_rebuild_wrapper_subclass torch._utils:_rebuild_nested_tensor torch:float32
"""
_PICKLE = (
    *(b"c" + name.replace(":", "\n").encode() + b"\n" for name in _GLOBALS.split()),
    *(b"(", b"t", b"R", b"0", b"}", b"]", b"a", b"s", b"u", b"Q", b".", b"b", b"N", b"\x88"),
    *(b"q\x00", b"h\x00", b"K\x01\x85R", b"J\xff\xff\xff\x7f\x85R"),
    b"\x8a\x06\0\0\0\0\0\x01\x85R",
)
_BOXES = """
    moov trak mdia minf stbl stsd stts ctts stsc stsz stco elst edts udta meta ilst tkhd avc1 hvc1
    colr pasp clap
"""
_MEDIA = (
    *(name.encode() for name in _BOXES.split()),
    *(b"\x1aE\xdf\xa3", b"\x18\x53\x80\x67", b"\x01" + b"\xff" * 7),
    *(b"\0\0\0\1", b"FRAME\n", b"\xff\xd8", b"G"),
)
_TAGS = (
    *(b"Exif\0\0", b"ICC_PROFILE\0", b"II*\0", b"MM\0*"),
    *(b"\xff\xe1", b"\xff\xe2", b"\x69\x87\x04\0"),
)
_Y4M = (
    *(b" C420p10", b" Cmono", b" C444alpha", b" It", b" A1:1", b" F30:1", b" W", b" H"),
    *(b"FRAME\n", b" XCOLORRANGE=FULL"),
)
_RAW = """
    yuv420p10be rgb24 nv12 p010le gray16 ya8 yuyv422 : x 30000/1001 uyyvyy411 rgb48be v210 monow
    yuva420p
"""
_NAMES = """%d %05d %0999999999d %٣d ² ٣ % .."""
_TOML = (
    *(b"[data]\n", b"[[stages]]\n", b"[network]\n", b"nan", b"inf", b"-1", b"1e999", b"true"),
    *(b"{}", b"[]", b"'x'", b"1979-05-27", b"[" * 200, b"{a=" * 50, b'"\\n"', b"9" * 5000),
    *(b"\n#set ", b"#set stages[*].steps=", b"kind = 'gan'\n"),
)
_NUMPY = (
    *(b"'<f4'", b"'|O'", b"True", b"(2, 3)", b"(", b"'<f8', (2,)", b"'V4'", b"(-1, -1)", b"L"),
    *(b"\x93NUMPY\x02\0", b"\x93NUMPY\x03\0"),
)
_GRAPH = (
    *(b"\x0a", b"\x12\x05Const", b"Conv2D", b"alpha1"),
    *(b"\xff" * 9 + b"\x01", b"\x08\xff\xff\xff\xff\x0f"),
)
_CACHE = (b"vsr engine 1\n", b'"key"', b"[" * 3000, b"null", b"{}")
_LAYERS = (
    *(SPLIT, b" 0=", b" 6=", b" -23310=1,2e-1", b"Convolution", b"PixelShuffle", b"Interp"),
    *(b"9" * 30, b"nan", b"inf", b"-1", b"7767517\n"),
)


def _words(text: str) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in text.split())


_CHECKPOINT: dict[str, Any] = {"steps": (_checkpoint,), "weights": True, "memory": 256 * _MIB}

TARGETS = (
    Target(name="video", steps=(_source, _probe), tokens=_MEDIA),
    Target(name="verify", steps=(_packets, _thumbnails, _excerpt), tokens=_MEDIA),
    Target(name="picture", steps=(_still, _stills), tokens=_MEDIA, mutate=mutate.within_png),
    Target(name="tags", steps=(_tags,), tokens=_TAGS, mutate=mutate.within_png),
    Target(name="y4m", steps=(_y4m,), tokens=_Y4M),
    Target(name="raw", steps=(_raw,), tokens=_words(_RAW)),
    Target(name="stream", steps=(_stream,), tokens=_MEDIA),
    Target(name="pattern", steps=(_pattern, _listing), write=_names, tokens=_words(_NAMES)),
    Target(name="recipe", steps=(_recipe,), tokens=_TOML),
    Target(name="cache", steps=(_cache,), tokens=_CACHE, weights=True),
    Target(name="safetensors", mutate=mutate.within_safetensors, **_CHECKPOINT),
    Target(name="pickle", mutate=mutate.within_zip, tokens=_PICKLE, **_CHECKPOINT),
    Target(name="numpy", mutate=mutate.within_zip, tokens=_NUMPY, **_CHECKPOINT),
    Target(name="matlab", tokens=(b"IM", b"MI", b"\x0e\0\0\0", b"\x0f\0\0\0"), **_CHECKPOINT),
    Target(name="tensorflow", tokens=_GRAPH, **_CHECKPOINT),
    Target(name="ncnn", write=_ncnn, tokens=_LAYERS, **_CHECKPOINT),
)
"""Everything that is fuzzed."""


def find(name: str) -> Target:
    """The target of a name."""
    return next(target for target in TARGETS if target.name == name)

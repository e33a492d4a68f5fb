"""Draws examples/clip.mkv: six seconds of a windmill, with sound, subtitles and chapters.

    python scripts/make_example.py [examples/clip.mkv]

The scene has what upscalers are judged by: thin line art, small text, natural-looking texture,
smooth motion. It is drawn at 1280×720 and shrunk with an antialiased bicubic to 320×180, so the
drawing itself is the truth that a fourfold enlargement can be held against (`drawing`). Everything
is computed from fixed seeds; nothing in it is by others but the font that Pillow brings along.
"""

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1280, 720
SMALL = (320, 180)
RATE, FRAMES = 24, 144
AUDIO_RATE = 48000

INK = (38, 34, 52)
CREDITS = (
    "THE MILL ON THE HILL",
    "a film of six seconds",
    "",
    "Wind ..... fractal noise",
    "Mill ........ plane geometry",
    "Birds ............ two arcs each",
    "Chord ........ C E G B, softly",
    "",
    "Drawn by a program,",
    "shrunk to 320 by 180,",
    "waiting to grow again.",
)
CUES = (
    (0.5, 2.4, "The wind is up this evening.", "Heute Abend geht Wind."),
    (2.8, 4.4, "Every blade is a line or two,", "Jeder Flügel ist ein, zwei Striche,"),
    (4.6, 5.9, "<i>and all want to be sharp.</i>", "<i>und alle wollen scharf sein.</i>"),
)
CHAPTERS = ((0, 3, "The mill"), (3, 6, "The credits"))

# x264's macroblock tree gives other bits from run to run where it uses AVX-512: it is left out.
ENCODER = {
    "crf": "19",
    "preset": "slower",
    "tune": "animation",
    "mbtree": "0",
    "flags": "+bitexact",
}

type Color = tuple[int, int, int]
type Point = tuple[float, float]


def fractal(size: tuple[int, int], cell: int, seed: int) -> NDArray[np.float64]:
    """Sums ever finer and weaker grids of smoothed noise: (H, W), 0 to 1."""
    random = np.random.default_rng(seed)
    width, height = size
    total, strength = np.zeros((height, width)), 1.0
    while cell >= 2:
        grid = random.random((height // cell + 3, width // cell + 3)).astype(np.float32)
        box = (1, 1, 1 + width / cell, 1 + height / cell)
        smooth = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC, box=box)
        total += strength * np.asarray(smooth)
        cell, strength = cell // 2, strength * 0.55
    return (total - total.min()) / (total.max() - total.min())


def mixed(low: Color, high: Color, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blends two colours by a map of 0 to 1: (H, W) → (H, W, 3)."""
    return np.array(low) + (np.array(high) - np.array(low)) * share[..., None]


def picture(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


@lru_cache(maxsize=1)
def sky() -> Image.Image:
    """Evening gradient with clouds and a sun, wider than the picture."""
    width = WIDTH + 200
    down = np.linspace(0, 1, HEIGHT)[:, None] + np.zeros((1, width))
    colors = mixed((58, 96, 140), (250, 205, 160), down**0.8)
    clouds = np.asarray(Image.fromarray(fractal((width, HEIGHT), 256, 1)).resize((width, HEIGHT)))
    veil = ((clouds - 0.5) * 3).clip(0, 1)[..., None] * 0.7
    colors = colors * (1 - veil) + np.array((255, 240, 226)) * veil
    y, x = np.mgrid[:HEIGHT, :width]
    far = np.hypot(x - 480, y - 330)
    glow = np.exp(-((far / 190) ** 2))[..., None] * 0.5
    disc = (64 - far).clip(0, 1)[..., None]
    colors = colors * (1 - glow) + np.array((255, 236, 170)) * glow
    return picture(colors * (1 - disc) + np.array((255, 247, 214)) * disc)


@lru_cache(maxsize=4)
def hills(index: int) -> Image.Image:
    """One of three textured ridges as RGBA, wider than the picture by what it pans."""
    top, rough, low, high = (
        (395, 150, (86, 104, 140), (126, 140, 168)),
        (470, 110, (62, 88, 98), (104, 132, 118)),
        (585, 60, (44, 72, 42), (132, 150, 70)),
    )[index]
    width = WIDTH + 200 * (index + 2)
    ridge = top - rough * (fractal((width, 8), 320, 10 + index)[4] - 0.5)
    texture = fractal((width, HEIGHT), (64, 48, 24)[index], 20 + index)
    if index == 2:  # grass: noise stretched along the blades, sharpened
        tall = Image.fromarray(fractal((width, HEIGHT // 6), 16, 30)).resize((width, HEIGHT))
        texture = (0.35 * texture + 0.65 * np.asarray(tall)).clip(0, 1)
        texture = ((texture - 0.45) * 2.6 + 0.45).clip(0, 1)
    rows = np.arange(HEIGHT)[:, None]
    shade = 1 - 0.35 * ((rows - ridge) / 300).clip(0, 1)[..., None]
    colors = mixed(low, high, texture) * shade
    alpha = ((rows - ridge).clip(0, 1) * 255)[..., None]
    return picture(np.concatenate([colors, alpha], axis=2))


def panned(layer: Image.Image, left: float) -> Image.Image:
    """The visible part of a layer from a fractional column on."""
    shift = (1, 0, left, 0, 1, 0)
    return layer.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, shift, Image.Resampling.BICUBIC)


class Pen:
    """Draws antialiased shapes: on twice the size, reduced when `paste` lays them on a picture."""

    def __init__(self) -> None:
        self.sheet = Image.new("RGBA", (2 * WIDTH, 2 * HEIGHT), (*INK, 0))
        self._draw = ImageDraw.Draw(self.sheet)

    def shape(self, points: list[Point], fill: Color, width: float = 5) -> None:
        corners = [(2 * x, 2 * y) for x, y in points]
        self._draw.polygon(corners, fill=fill)
        self.line([*points, points[0]], width)

    def line(self, points: list[Point], width: float = 5) -> None:
        corners = [(2 * x, 2 * y) for x, y in points]
        self._draw.line(corners, fill=INK, width=round(2 * width), joint="curve")

    def arc(self, box: tuple[float, float, float, float], start: float, end: float) -> None:
        self._draw.arc([2 * side for side in box], start, end, fill=INK, width=9)

    def disc(self, centre: Point, radius: float, fill: Color) -> None:
        x, y, r = 2 * centre[0], 2 * centre[1], 2 * radius
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=INK, width=9)

    def text(self, at: Point, words: str, size: int, fill: tuple[int, int, int, int]) -> None:
        font = ImageFont.load_default(2 * size)
        self._draw.text((2 * at[0], 2 * at[1]), words, fill=fill, font=font, anchor="mm")

    def paste(self, picture: Image.Image) -> None:
        small = self.sheet.reduce(2)
        picture.paste(small, (0, 0), small)


def mill(pen: Pen, hub: Point, angle: float) -> None:
    """A tower mill with four latticed blades, turned by `angle` radians."""
    x, y = hub
    wall, roof, wood, cloth = (240, 226, 200), (170, 74, 58), (120, 88, 62), (250, 246, 236)
    pen.shape([(x - 62, y + 10), (x + 62, y + 10), (x + 96, y + 330), (x - 96, y + 330)], wall)
    for row in range(1, 9):  # courses of bricks, each shifted by half a brick
        level, half = y + 10 + row * 36, 62 + 34 * row * 36 / 320
        pen.line([(x - half, level), (x + half, level)], 1.5)
        for column in range(-2, 3):
            joint = x + (column + 0.5 * (row % 2)) * half * 0.42
            if abs(joint - x) < half - 6:
                pen.line([(joint, level - 36), (joint, level)], 1.5)
    pen.shape([(x - 74, y + 14), (x - 40, y - 62), (x + 40, y - 62), (x + 74, y + 14)], roof)
    pen.shape([(x - 24, y + 250), (x + 24, y + 250), (x + 26, y + 330), (x - 26, y + 330)], wood)
    pen.disc((x, y + 120), 22, (120, 160, 190))
    pen.line([(x - 22, y + 120), (x + 22, y + 120)], 3)
    pen.line([(x, y + 98), (x, y + 142)], 3)
    for blade in range(4):
        _blade(pen, hub, angle + blade * math.pi / 2, cloth)
    pen.disc(hub, 15, wood)


def _blade(pen: Pen, hub: Point, angle: float, cloth: Color) -> None:
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))

    def at(out: float, side: float) -> Point:
        return (
            hub[0] + out * along[0] + side * across[0],
            hub[1] + out * along[1] + side * across[1],
        )

    pen.shape([at(58, 4), at(236, 4), at(236, 56), at(58, 40)], cloth, 4)
    for rung in range(1, 7):
        out = 58 + rung * 178 / 7
        pen.line([at(out, 4), at(out, 40 + 16 * rung / 7)], 2.5)
    pen.line([at(58, 22), at(236, 30)], 2.5)
    pen.line([at(0, 0), at(246, 0)], 8)


def birds(pen: Pen, seconds: float) -> None:
    """Five gulls, two arcs each, that beat their wings."""
    for index in range(5):
        x = 110 + 62 * index + 46 * seconds + 14 * math.sin(seconds + 2 * index)
        y = 150 + 34 * abs(index - 2) + 8 * math.sin(2.1 * seconds + index)
        beat = 14 + 9 * math.sin(9 * seconds + 1.7 * index)
        pen.arc((x - 40, y - beat, x, y + beat), 190, 350)
        pen.arc((x, y - beat, x + 40, y + beat), 190, 350)


def credit_roll(pen: Pen, seconds: float) -> None:
    """Small text that scrolls up at the left."""
    for row, words in enumerate(CREDITS):
        y = 690 + 52 * row - 120 * seconds
        edge = min(1.0, (y - 40) / 60, (HEIGHT - 30 - y) / 60)
        if edge > 0 and words:
            size, shadow = (42 if row == 0 else 32), round(150 * edge)
            pen.text((342, y + 3), words, size, (20, 24, 40, shadow))
            pen.text((340, y), words, size, (255, 252, 240, round(255 * edge)))


def drawing(index: int) -> Image.Image:
    """Draws frame `index` at 1280×720, RGB."""
    seconds = index / RATE
    scene = panned(sky(), 12 * seconds).convert("RGB")
    for layer, speed in ((0, 14), (1, 26)):
        ridge = panned(hills(layer), speed * seconds)
        scene.paste(ridge, (0, 0), ridge)
    pen = Pen()
    mill(pen, (960 - 4 * seconds, 300), 0.35 + 0.62 * seconds)
    birds(pen, seconds)
    pen.paste(scene)
    meadow = panned(hills(2), 48 * seconds)
    scene.paste(meadow, (0, 0), meadow)
    words = Pen()
    credit_roll(words, seconds)
    words.paste(scene)
    return scene


def shrunk(scene: Image.Image) -> Image.Image:
    """What the clip shows of a drawing: 320×180."""
    return scene.resize(SMALL, Image.Resampling.BICUBIC)


def sound() -> Iterator[av.AudioFrame]:
    """A major seventh on soft, slightly detuned sines that swells and fades; stereo."""
    length = AUDIO_RATE * FRAMES // RATE
    time = np.arange(length) / AUDIO_RATE
    swell = np.sin(np.pi * time / time[-1]) ** 0.7
    sides = []
    for side in (-1, 1):
        wave = np.zeros(length)
        for voice, pitch in enumerate((130.81, 196.0, 261.63, 329.63, 392.0, 493.88)):
            entry = (1 - np.exp(-((time - 0.25 * voice).clip(0) ** 2) * 3)) / (voice + 2)
            drift = 1 + 0.0012 * side * (voice % 3 - 1)
            tone = np.sin(2 * np.pi * pitch * drift * time) + 0.2 * np.sin(4 * np.pi * pitch * time)
            wave += entry * tone
        sides.append(wave * swell)
    stereo = np.stack(sides).astype(np.float32)
    stereo *= 0.35 / np.abs(stereo).max()
    for start in range(0, length, 1024):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(stereo[:, start : start + 1024]), "fltp", "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        yield frame


def _video_frame(index: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.asarray(shrunk(drawing(index))), format="rgb24")
    frame = frame.reformat(
        format="yuv420p",
        interpolation="BICUBIC",
        src_color_range=2,
        dst_color_range=1,
        dst_colorspace=5,
    )
    frame.pts, frame.time_base = index, Fraction(1, RATE)
    return frame


def _tagged(video: VideoStream) -> None:
    context = video.codec_context
    context.width, context.height, context.pix_fmt = *SMALL, "yuv420p"
    context.time_base, context.thread_count = Fraction(1, RATE), 1
    context.colorspace = context.color_primaries = context.color_trc = 6  # BT.601, 525 lines
    context.color_range = 1
    video.metadata["title"] = "The mill on the hill"


def write(path: Path) -> None:
    """Encodes the clip."""
    with av.open(path, "w", format="matroska", options={"fflags": "+bitexact"}) as file:
        file.metadata["title"] = "The mill on the hill"
        file.set_chapters(
            [
                {
                    "id": number,
                    "start": start * 1000,
                    "end": end * 1000,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": name},
                }
                for number, (start, end, name) in enumerate(CHAPTERS, 1)
            ]
        )
        video = file.add_stream("libx264", rate=RATE, options=ENCODER)
        _tagged(video)
        audio = file.add_stream("aac", rate=AUDIO_RATE, layout="stereo", options={"b": "64k"})
        audio.metadata["language"] = "zxx"
        audio.metadata["title"] = "Chord"
        texts = [file.add_mux_stream("subrip") for _ in range(2)]
        for stream, language in zip(texts, ("eng", "deu"), strict=True):
            stream.metadata["language"] = language
        for index in range(FRAMES):
            file.mux(video.encode(_video_frame(index)))
        file.mux(video.encode())
        for frame in sound():
            file.mux(audio.encode(frame))
        file.mux(audio.encode())
        for start, end, *lines in CUES:
            for stream, line in zip(texts, lines, strict=True):
                packet = av.Packet(line.encode())
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(start * 1000)
                packet.duration = round((end - start) * 1000)
                file.mux(packet)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/clip.mkv")
    write(target)
    print(f"{target}: {target.stat().st_size} bytes")

"""Pairs by name and by time, means, filters of libavfilter, grids, tables and pages."""

import csv
import io
import json
import math
import re
from fractions import Fraction
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from tests.media import clip, pictures
from vsr.errors import SourceError, UsageError
from vsr.io.quality_filters import QualityFilter, available
from vsr.judging.compare import Box, CompareOptions, compare, differing, frame_at
from vsr.judging.evaluation import Evaluation, Score, clock, evaluate, mean_of, partners
from vsr.judging.gallery import ORIGINAL, Entry, Gallery
from vsr.judging.grid import Grid, lowered, run_grid
from vsr.judging.lettering import lettered, shortened
from vsr.judging.measures import MEASURES, Judge, JudgingOptions, measures_in
from vsr.judging.page import page
from vsr.judging.plots import plots, svg, ticks
from vsr.judging.sheet import COLUMN, comparison_page, sheet
from vsr.judging.stills import png
from vsr.judging.tables import as_csv, as_json, summary
from vsr.judging.viewing import Matching, Pair, View, frame_of, matched, read_view
from vsr.metrics import luma, psnr
from vsr.types import ColorSpec, Frame, PixelFormat


def noisy(picture, strength, seed=0):
    random = np.random.default_rng(seed)
    return (picture + random.normal(0, strength, picture.shape)).clip(0, 255).astype(np.uint8)


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture))
    return path


def ticking(times, base, value=100):
    plane = np.full((16, 16), value, np.uint8)
    for time in times:
        yield Frame(
            planes=(plane,),
            format=PixelFormat(family="gray"),
            color=ColorSpec(),
            pts=time,
            time_base=base,
        )


def test_frames_match_by_exact_time_across_time_bases():
    """29.97 fps in its own ticks against rounded milliseconds, as in Matroska; one is gone."""
    exact = Fraction(1001, 30000)
    ours = ticking(range(9), exact)
    theirs = ticking([round(n * exact * 1000) for n in range(9) if n != 4], Fraction(1, 1000))
    counts = Matching()
    found = list(matched(ours, theirs, counts))
    assert [time for time, _, _ in found] == [n * exact for n in range(9) if n != 4]
    assert (counts.matched, counts.only_reference, counts.only_result) == (8, 1, 0)
    assert "1 of the original" in counts.note("x")


def test_films_that_begin_elsewhere_match_only_if_asked():
    base = Fraction(1, 25)
    with pytest.raises(UsageError, match=r"begin at 0 s and 4 s; --align start"):
        list(matched(ticking(range(3), base), ticking(range(100, 103), base), Matching()))
    counts = Matching()
    films = ticking(range(3), base), ticking(range(100, 103), base)
    assert len(list(matched(*films, counts, "start"))) == 3
    assert not counts.note("x")


def test_partners_by_name(tmp_path):
    picture = pictures(1)[0]
    for name in ("img_1", "img_10", "baby", "lost"):
        save(tmp_path / "hr" / f"{name}.png", picture)
    for name in ("img_1_x2", "img_10_x2", "babyx4", "other"):
        save(tmp_path / "sr" / f"{name}.png", picture)
    notes = []
    found = partners(tmp_path / "hr", tmp_path / "sr", notes)
    assert [(a.stem, b.stem) for a, b in found] == [
        ("baby", "babyx4"),
        ("img_1", "img_1_x2"),
        ("img_10", "img_10_x2"),
    ]
    assert notes == [f"{tmp_path / 'sr'}: 1 of 4 are missing"]
    save(tmp_path / "sr" / "baby_b.png", picture)
    with pytest.raises(UsageError, match="more than one partner"):
        partners(tmp_path / "hr", tmp_path / "sr", [])
    save(tmp_path / "none" / "x.png", picture)
    with pytest.raises(UsageError, match=r"x\.png against baby\.png"):
        partners(tmp_path / "hr", tmp_path / "none", [])


def test_stills_are_measured_as_papers_do(tmp_path):
    high = pictures(1, (64, 48))[0]
    low = noisy(high[:46, :62], 6)  # the original is cropped to a multiple of the scale
    save(tmp_path / "hr" / "a.png", high)
    save(tmp_path / "sr" / "a.png", low)
    judge = Judge(JudgingOptions(measures=("psnr", "psnr-rgb", "ssim-rgb"), crop=2))
    found = evaluate(tmp_path / "hr", [tmp_path / "sr"], judge)
    values = found.scores[0].values
    assert values["psnr"] == pytest.approx(psnr(luma(high[:46, :62]), luma(low), 2))
    assert values["psnr-rgb"] == pytest.approx(psnr(high[:46, :62], low, 2))
    assert 0 < values["ssim-rgb"] < 1
    save(tmp_path / "half" / "a.png", high[:24, :32])
    with pytest.raises(UsageError, match="differs in size from its original: 32x24 against 64x48"):
        evaluate(tmp_path / "hr", [tmp_path / "half"], judge)


def test_gray_is_measured_as_it_is_only_where_it_is_stored_so():
    gray = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    other = noisy(gray, 5)
    as_rgb = np.repeat(other[..., None], 3, 2)
    stored = Pair(View(frame_of(gray)), View(frame_of(as_rgb)))
    assert psnr(*stored.luma) == pytest.approx(psnr(gray, other))
    colored = Pair(View(frame_of(np.repeat(gray[..., None], 3, 2))), View(frame_of(as_rgb)))
    assert psnr(*colored.luma) > psnr(gray, other) + 1, "luma spans 219 of 255"


@pytest.mark.parametrize("full", [False, True])
def test_luma_of_films_is_their_plane(full):
    plane = np.array([[0, 16, 128, 235, 255] * 4] * 16, np.uint8)
    chroma = np.full(plane.shape, 128, np.uint8)
    frame = Frame(
        planes=(plane, chroma, chroma),
        format=PixelFormat(family="yuv"),
        color=ColorSpec(full_range=full),
        pts=0,
        time_base=Fraction(1, 25),
    )
    found = Pair(View(frame, film=True), View(frame, film=True)).luma[0]
    assert np.allclose(found, 16 + plane * (219 / 255) if full else plane)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """An original in Matroska, and a better and a worse copy in mp4 and Matroska."""
    folder = tmp_path_factory.mktemp("films")
    shots = pictures(6, (96, 80))
    clip(folder / "original.mkv", codec="ffv1", frames=shots)
    clip(folder / "better.mp4", frames=shots, options={"crf": "20"})
    clip(folder / "worse.mkv", frames=[noisy(s, 30, n) for n, s in enumerate(shots)])
    return folder


def test_films_with_every_kind_of_measure(films):
    names = ("psnr", "vmaf", "xpsnr", "tof", "warp", "static")
    gallery = Gallery(3)
    found = evaluate(
        films / "original.mkv",
        [films / "better.mp4", films / "worse.mkv"],
        Judge(JudgingOptions(measures=names)),
        gallery=gallery,
    )
    assert found.film
    assert found.labels() == ["better.mp4", "worse.mkv"]
    assert [s.seconds for s in found.of("", "better.mp4")] == [Fraction(n, 25) for n in range(6)]
    better, worse = (found.mean("", label) for label in found.labels())
    for name in names:
        assert math.isfinite(better[name])
        assert (better[name] > worse[name]) == MEASURES[name].higher, name
    exhibits = gallery.exhibits()
    assert [e.title for e in exhibits[:2]] == ["0:00.000", "0:00.080"]
    assert set(exhibits[0].pictures) == {ORIGINAL, *found.labels()}
    assert exhibits[-1].title.endswith("(worst of worse.mkv)")


def test_temporal_measures_need_films(tmp_path):
    save(tmp_path / "a.png", pictures(1)[0])
    judge = Judge(JudgingOptions(measures=("psnr", "tof")))
    with pytest.raises(UsageError, match="tof compare successive frames: give films"):
        evaluate(tmp_path / "a.png", [tmp_path / "a.png"], judge)


@pytest.mark.skipif(not available("vmaf"), reason="this FFmpeg has no libvmaf")
@pytest.mark.parametrize("meter", ["vmaf", "vmaf-neg", "xpsnr"])
def test_filters_rank_rgb_and_yuv_alike(meter):
    clean = pictures(3, (64, 48))
    scores = []
    for strength in (0, 4, 20):
        judge = QualityFilter(meter, frame_of(clean[0]))
        for n, picture in enumerate(clean):
            judge.push(frame_of(picture), frame_of(noisy(picture, strength, n)))
        scores.append(judge.finish())
    assert all(len(found) == 3 for found in scores)
    best, middle, worst = (mean_of(found) for found in scores)
    assert best > middle > worst
    assert best > 90 if meter != "xpsnr" else best == math.inf


def test_filters_convert_ranges_and_refuse_other_sizes():
    """The same picture in limited and in full range is the same picture."""
    ramp = np.broadcast_to(np.linspace(16, 235, 64), (48, 64)).round()
    chroma = np.full((48, 64), 128, np.uint8)

    def yuv(plane, full):
        return Frame(
            planes=(np.ascontiguousarray(plane.round().astype(np.uint8)), chroma, chroma),
            format=PixelFormat(family="yuv"),
            color=ColorSpec(matrix=6, full_range=full),
            pts=0,
            time_base=Fraction(1, 25),
        )

    judge = QualityFilter("xpsnr", yuv(ramp, False))
    judge.push(yuv(ramp, False), yuv((ramp - 16) * 255 / 219, True))
    judge.push(yuv(ramp, False), yuv((ramp - 16) * 255 / 219, False))
    with pytest.raises(UsageError, match="got 32x48 after 64x48"):
        judge.push(yuv(ramp, False), yuv(ramp[:, :32], False))
    right, wrong = judge.finish()
    assert right > wrong + 15
    with pytest.raises(UsageError, match="at least 16x16"):
        QualityFilter("vmaf", frame_of(np.zeros((8, 8, 3), np.uint8)))


def test_means_know_what_is_missing_and_infinite():
    assert math.isnan(mean_of([math.nan]))
    assert mean_of([math.nan, 2.0, 4.0]) == 3
    assert mean_of([math.inf, 40.0]) == 70
    assert mean_of([math.inf, math.inf]) == math.inf


def test_names_of_measures():
    assert measures_in("PSNR, ssim_rgb,psnr") == ("psnr", "ssim-rgb")
    with pytest.raises(UsageError, match="unknown measure 'psrn': --metrics takes psnr, ssim"):
        measures_in("psrn")
    with pytest.raises(UsageError, match="give --lpips FILE and --vgg16 or --alexnet FILE"):
        Judge(JudgingOptions(measures=("lpips",)))


@pytest.mark.shared
@pytest.mark.parametrize("lowering", ["files", "make"])
def test_bicubic_s_published_row(shared, lowering):
    """ANCHORS, section 2: each figure to 0.02 dB, from files and made here."""
    published = {
        "set5 x2": 33.66,
        "set14 x2": 30.24,
        "set5 x3": 30.39,
        "set14 x3": 27.55,
        "set5 x4": 28.42,
        "set14 x4": 26.00,
    }
    images = shared / "data" / "images"
    grid = Grid(
        models=("bicubic",),
        sets=(images / "set5", images / "set14"),
        scales=(2, 3, 4),
        lowering=lowering,
        device="cpu",
    )
    found = run_grid(grid, JudgingOptions(measures=("psnr",)))
    for group, expected in published.items():
        assert found.mean(group, "bicubic")["psnr"] == pytest.approx(expected, abs=0.02), group


@pytest.mark.shared
def test_lowering_gives_the_bits_of_the_files(shared):
    """MATLAB's own files differ from ours by rounding of ties at the most."""
    folder = shared / "data" / "images" / "set5"
    for scale in (2, 3, 4):
        theirs = read_view(folder / "LR_bicubic" / f"X{scale}" / f"womanx{scale}.png").rgb
        high = read_view(folder / "HR" / "woman.png").rgb
        high = high[: theirs.shape[0] * scale, : theirs.shape[1] * scale]
        apart = np.abs(lowered(high, scale).astype(int) - theirs)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.001


def test_a_grid_of_a_plain_folder(tmp_path):
    folder = tmp_path / "mine"
    y, x = np.mgrid[:35, :49][..., None]
    for n in range(2):
        waves = 128 + 60 * np.sin(x / 5 + n) + 40 * np.cos(y / 4 + np.arange(3))
        save(folder / f"{n}.png", waves.astype(np.uint8))
    grid = Grid(models=("bicubic", "nearest"), sets=(folder,), scales=(2, 3), device="cpu")
    gallery = Gallery(1)
    found = run_grid(grid, JudgingOptions(), gallery=gallery)
    assert found.groups() == ["mine x2", "mine x3"]
    assert len(found.scores) == 8
    for group in found.groups():
        assert found.mean(group, "bicubic")["psnr"] > found.mean(group, "nearest")["psnr"]
    assert [e.title for e in gallery.exhibits()] == ["mine x2: 0", "mine x3: 0"]
    with pytest.raises(SourceError, match="does not exist: --lr make"):
        run_grid(
            Grid(models=("bicubic",), sets=(folder,), scales=(2,), lowering="files"),
            JudgingOptions(),
        )


def test_a_model_without_the_scale_is_left_out(tmp_path):
    save(tmp_path / "s" / "a.png", pictures(1, (48, 48))[0])
    grid = Grid(models=("vsr-fast", "bicubic"), sets=(tmp_path / "s",), scales=(6,), device="cpu")
    found = run_grid(grid, JudgingOptions(measures=("psnr",)))
    assert found.labels() == ["bicubic"]
    assert found.notes == ("vsr-fast has no network for x6",)


def test_a_gallery_keeps_the_same_few_for_everybody():
    gallery, view = Gallery(4), View(frame_of(np.zeros((4, 4, 3), np.uint8)))
    for label in ("a", "b"):
        for place in range(100):
            loss = float(place == 37) if label == "a" else None
            entry = Entry(title=str(place), pair=Pair(view, view), values={}, loss=loss)
            gallery.offer("", place, label, entry)
    kept = gallery.exhibits()
    assert [e.title for e in kept] == ["0", "32", "64", "96", "37 (worst of a)"]
    assert all(set(e.pictures) == {ORIGINAL, "a", "b"} for e in kept[:4])


def some(film=True, name="psnr", labels=("a<b", "c"), count=5):
    scores = [
        Score(
            group="",
            item=clock(Fraction(n, 5)) if film else f"p{n}",
            label=label,
            values={name: 30.0 + n + place},
            seconds=Fraction(n, 5) if film else None,
        )
        for place, label in enumerate(labels)
        for n in range(count)
    ]
    return Evaluation(measures=(name,), scores=tuple(scores), notes=("a <note>",))


def test_tables_csv_and_json_say_the_same():
    found = some()
    head, rows = summary(found)
    assert head == ["what", "n", "PSNR ↑"]
    assert rows == [["a<b", "5", "32.00"], ["c", "5", "33.00"]]
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [line["seconds"] for line in lines[:3]] == ["0", "1/5", "2/5"]
    document = json.loads(as_json(found))
    assert document["summary"][1] == {
        "set": "",
        "what": "c",
        "n": 5,
        "mean": {"psnr": 33.0},
        "worst": {"psnr": 31.0},
    }
    assert [s["values"]["psnr"] for s in document["scores"]] == [float(x["psnr"]) for x in lines]
    missing = Evaluation(
        measures=("psnr",),
        scores=tuple(
            Score(group="", item="x", label="y", values={"psnr": value})
            for value in (math.nan, math.inf)
        ),
    )
    found = json.loads(as_json(missing))["scores"]
    assert [s["values"]["psnr"] for s in found] == [None, "inf"]
    assert ",y,,\n" in as_csv(missing)


class Reader(HTMLParser):
    """Finds what a page would load, and whether its elements are balanced."""

    VOID = frozenset({"meta", "img", "input", "line", "circle", "polyline"})

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def read_page(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    assert all(load.startswith("data:image/png;base64,") for load in reader.loads)
    assert "http" not in re.sub(r'"data:[^"]*"', "", text), "a page loads nothing"
    told = re.search(r'<script type="application/json" id="told">(.*?)</script>', text, re.DOTALL)
    return reader, json.loads(told[1])


def test_a_page_is_whole_and_needs_no_other_file():
    gallery, picture = Gallery(), pictures(1)[0]
    pair = Pair(View(frame_of(picture)), View(frame_of(noisy(picture, 9))))
    entry = Entry(title="</script>", pair=pair, values={"psnr": 31.25, "tof": math.nan})
    gallery.offer("", 0, "a<b", entry)
    reader, told = read_page(page(some(), gallery.exhibits(), "x & <y>"))
    shown = " ".join(reader.text)
    for expected in ("x & <y>", "a <note>", "33.00", "All 10 frames"):
        assert expected in shown
    exhibit = told["exhibits"][0]
    assert exhibit["title"] == "</script>"
    assert exhibit["size"] == [64, 48]
    assert list(exhibit["pictures"]) == [ORIGINAL, "a<b"]
    assert exhibit["values"] == {"a<b": {"PSNR ↑": "31.25"}}
    assert told["plots"][0]["times"][1] == "0:00.200"


def test_plots_show_gaps_and_the_worst_of_many():
    found = some(count=3000, labels=("a",))
    plot = plots(found)[0]
    assert plot.step == 3
    assert plot.series["a"][:2] == (30.0, 33.0)
    assert "the worst of every 3 frames" in plot.title
    assert not plots(some(film=False))
    gap = Evaluation(
        measures=("tof",),
        scores=tuple(
            Score(group="", item="", label="a", values={"tof": value}, seconds=Fraction(n))
            for n, value in enumerate([math.nan, 1.0, 2.0, math.nan, 3.0])
        ),
    )
    drawn = svg(plots(gap)[0], 0)
    assert drawn.count("<polyline") == 1
    assert drawn.count("<circle") == 1
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3.0, 3.0) == [3.0]


def test_crops_are_where_pictures_differ_most():
    a = np.full((80, 100, 3), 100, np.uint8)
    b = a.copy()
    b[10:20, 60:75] = 160
    b[60:70, 5:15] = 140
    first, second = differing([a, b], (20, 16), 2)
    assert first.x <= 60 < 75 <= first.x + 20
    assert first.y <= 10 < 20 <= first.y + 16
    assert second.x <= 5 < 15 <= second.x + 20
    assert len(differing([a, b], (200, 200), 3)) == 1, "the whole picture"


def test_the_frame_that_is_shown(tmp_path):
    """At 0.29 s of 25 fps the frame of 0.28 s is on screen, in a film that begins at 2 s too."""
    shots = [np.full((32, 32, 3), 10 * n, np.uint8) for n in range(10)]
    path = clip(tmp_path / "a.mkv", codec="ffv1", frames=shots, fmt="yuv444p")

    def shown(path, *times):
        luma = int(frame_at(path, *map(Fraction, times)).planes[0][0, 0])
        return round((luma - 16) * 255 / 219 / 10)

    assert shown(path, "0.29") == 7
    assert shown(path, 0) == 0
    late = clip(tmp_path / "b.mkv", codec="ffv1", frames=shots, fmt="yuv444p", pts=range(50, 60))
    assert shown(late, "0.29") == 7
    assert shown(late, 2, 0) == 0
    with pytest.raises(UsageError, match=r"ends at 0\.36 s, before 3 s"):
        frame_at(path, Fraction(3))
    with pytest.raises(UsageError, match="begins 1 s after"):
        frame_at(late, Fraction(1), Fraction(0))


def test_films_of_other_sizes_are_compared_in_step(films, tmp_path):
    small = [shot[::2, ::2] for shot in pictures(6, (96, 80))]
    half = clip(tmp_path / "half.mkv", codec="ffv1", frames=small)
    options = CompareOptions(at=(Fraction(3, 25), Fraction(0)), count=1, box=(24, 16))
    moments = compare([half, films / "original.mkv"], options)
    assert [m.title for m in moments] == ["0:00.120", "0:00.000"]
    for moment, n in zip(moments, (3, 0), strict=True):
        assert {p.shape for p in moment.pictures.values()} == {(80, 96, 3)}
        box = moment.boxes[0]
        assert (box.width, box.height) == (24, 16)
        shown = moment.pictures["original.mkv"].astype(int)
        assert np.abs(shown - pictures(6, (96, 80))[n]).mean() < 8
    drawn = sheet(moments)
    assert drawn.shape[1] == 2 * COLUMN + 3 * 12
    reader, told = read_page(comparison_page(moments, "t"))
    assert len(told["exhibits"]) == 2
    assert len(reader.loads) == 4


def test_given_crops_are_shown_pixel_by_pixel(tmp_path):
    picture = pictures(1, (64, 48))[0]
    paths = [save(tmp_path / f"{n}.png", p) for n, p in (("a", picture), ("b", 255 - picture))]
    box = Box(x=10, y=20, width=24, height=8)
    [moment] = compare(paths, CompareOptions(boxes=(box,)))
    drawn = sheet([moment])
    # 480 / 24 = 20 sheet pixels a picture pixel; the crop is the last thing before the margin.
    centre = drawn[-12 - 8 * 20 + 10 : -12 : 20, 12 + 10 : 12 + COLUMN : 20]
    assert np.array_equal(centre, picture[20:28, 10:34])
    with pytest.raises(UsageError, match=r"--crop 50,0,20,10 leaves the picture of 64x48"):
        compare(paths, CompareOptions(boxes=(Box(x=50, y=0, width=20, height=10),)))
    with pytest.raises(UsageError, match="2 inputs need as many different labels"):
        compare(paths, CompareOptions(labels=("same", "same")))
    wide = save(tmp_path / "wide.png", picture[:24])
    with pytest.raises(UsageError, match="of another shape than 64x48"):
        compare([paths[0], wide], CompareOptions())


def test_letters_are_all_different_and_fit():
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-_/()+=? "
    shapes = {lettered(letter, 1).tobytes() for letter in letters}
    assert len(shapes) == len(letters)
    assert np.array_equal(lettered("ab"), lettered("AB"))
    assert lettered("abc", 2).shape == (14, 36)
    assert lettered(shortened("a very long name.png", 96)).shape[1] <= 96
    assert shortened("folder/name.png", 120) == "..name.png"


def test_stills_are_lossless():
    picture = pictures(1)[0]
    with av.open(io.BytesIO(png(picture))) as file:
        assert np.array_equal(next(file.decode(video=0)).to_ndarray(format="rgb24"), picture)

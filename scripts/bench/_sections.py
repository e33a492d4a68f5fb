"""Result files as tables: for every kind of benchmark a head and rows of text, made from its JSON.

A kind that is not named in `SECTIONS` is shown as it is, one row for each of its `rows`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

type Facts = Mapping[str, Any]
type Table = tuple[list[str], list[list[str]]]
type Section = Callable[[Facts], Sequence[tuple[str, Table]]]

NONE = "–"


def number(value: object, digits: int | None = None) -> str:
    """A figure as text: with so many decimals, or as many as its size deserves."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if digits is None:
        digits = 0 if isinstance(value, int) or abs(value) >= 100 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}"


def share(value: float) -> str:
    """A part of one as per cent."""
    return f"{value:.0%}"


def plain(rows: Sequence[Facts]) -> Table:
    """Rows as they are, without what is itself a collection."""
    names = [
        name
        for name in dict.fromkeys(key for row in rows for key in row)
        if not any(isinstance(row.get(name), dict | list) for row in rows)
    ]
    head = [name.replace("_", " ") for name in names]
    return head, [[number(row.get(name)) for name in names] for row in rows]


def end_to_end(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Rates of whole jobs."""
    head = ["input", "scale", "model", "precision", "x264", "steady fps", "with start-up"]
    rows = [
        [
            row["input"],
            f"{row['scale']}",
            row.get("model", "auto"),
            row.get("precision", "auto"),
            row.get("preset", "fast"),
            number(row["steady_fps"], 1),
            number(row["fps"], 1),
            row["bottleneck"],
            f"{row['peak_mb']:.0f} MB",
        ]
        for row in facts["rows"]
    ]
    return [("", ([*head, "bounded by", "memory"], rows))]


def pipeline(facts: Facts) -> Sequence[tuple[str, Table]]:
    """The network alone, the pipeline, the whole job."""
    head = ["input:scale", "workers", "network fps", "pipeline fps", "of network", "job fps"]
    rows = [
        [
            row["input"],
            f"{row['workers']}",
            number(row["network_fps"], 1),
            number(row["pipeline_fps"], 1),
            share(row["pipeline_fps"] / row["network_fps"]),
            number(row["whole_fps"], 1),
            ", ".join(f"{stage} {share(part)}" for stage, part in row["busy"].items()),
        ]
        for row in facts["rows"]
    ]
    return [("", ([*head, "busy"], rows))]


def repeats(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Rates of films whose pictures stay."""
    head = ["film", "fps", "not computed again"]
    rows = [[r["film"], number(r["fps"], 1), share(r["reused"])] for r in facts["rows"]]
    return [("", (head, rows))]


def vapoursynth(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Time of the filter, of the engine, of the network."""
    walls, used = facts["milliseconds"], facts["processor_milliseconds"]
    bare = walls["network"]
    rows = [
        [name, number(ms, 1), number(used[name], 1), f"{ms / bare - 1:+.1%}"]
        for name, ms in walls.items()
    ]
    return [(facts["size"], (["what", "ms/frame", "processor ms", "over the network"], rows))]


def quality(facts: Facts) -> Sequence[tuple[str, Table]]:
    """PSNR / SSIM by model and set."""
    scores = facts["scores"]
    columns = list(dict.fromkeys(column for row in scores.values() for column in row))
    rows = [
        [model, *(_score(row.get(column)) for column in columns)] for model, row in scores.items()
    ]
    return [(facts["metric"], (["model", *columns], rows))]


def _score(value: Facts | None) -> str:
    return f"{value['psnr']:.2f} / {value['ssim']:.4f}" if value else NONE


def zoo(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Ours beside what is published, Set5 / Set14."""
    rows = []
    for row in facts["rows"]:
        told = [row["published"], row["paper"]]
        ours = {name: value["psnr"] for name, value in row["ours"].items()}
        cells = [" / ".join(number(known.get(s), 2) for s in ours) for known in (ours, *told)]
        measure = row.get("measure", "luma")
        other = "" if measure == "luma" else f" ({measure})"
        rows.append([f"{row['file']} x{row['scale']}{other}", *cells, row["note"]])
    sets = " / ".join(facts["rows"][0]["ours"])
    return [
        (f"{facts['metric']}; {sets}", (["checkpoint", "ours", "published", "paper", ""], rows))
    ]


def training(facts: Facts) -> Sequence[tuple[str, Table]]:
    """What the small recipes came to."""
    rows = []
    for name, run in facts["runs"].items():
        for measure, found in run["figures"].items():
            cells = [number(found.get(key), 4) for key in ("without", "first", "last")]
            lifted = "yes" if found["lifted"] else "no"
            seconds = f"{run['seconds']}" + (" beside other work" if "beside" in run else "")
            rows.append([name, seconds, run["judged on"], measure, *cells, lifted])
    head = ["recipe", "seconds", "judged on", "measure", "without", "first", "last", "better"]
    return [("", (head, rows))]


def segments(facts: Facts) -> Sequence[tuple[str, Table]]:
    """What cutting costs, encoder by encoder."""
    film = facts["film"]
    width, height = film["size"]
    rows = []
    for run in facts["runs"]:
        (size, cut), (seconds, longer), (one, other) = (
            run["bytes"],
            run["seconds"],
            run["psnr"],
        )
        more = f"{cut / size - 1:+.2%}", f"{other - one:+.3f} dB", f"{longer / seconds - 1:+.1%}"
        rows.append([run["encoder"], *more])
    told = f"{film['frames']} frames of {width}×{height} in segments of {facts['segment']}"
    return [(told, (["encoder", "bytes", "PSNR", "time"], rows))]


def codec(facts: Facts) -> Sequence[tuple[str, Table]]:
    """PSNR / VMAF / warping error by model and CRF, one table for each factor."""
    tables = []
    for scale, found in facts["scores"].items():
        names = list(dict.fromkeys(crf for by_crf in found.values() for crf in by_crf))
        rows = [
            [model, *(_damaged(by_crf.get(name)) for name in names)]
            for model, by_crf in found.items()
        ]
        head = ["model", *("undamaged" if name == "none" else f"CRF {name}" for name in names)]
        tables.append((f"{scale}, PSNR in dB / VMAF / warping error", (head, rows)))
    return tables


def text(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Ringing / drift by model and CRF, one table for each factor."""
    tables = []
    for scale, found in facts["scores"].items():
        names = list(next(iter(found.values())))
        rows = [
            [model, *(f"{v['ringing']:.2f} / {v['drift']:.2f}" for v in by_crf.values())]
            for model, by_crf in found.items()
        ]
        head = ["model", *("undamaged" if name == "none" else f"CRF {name}" for name in names)]
        tables.append((f"{scale}, ringing / drift in 8-bit levels", (head, rows)))
    return tables


def _damaged(value: Facts | None) -> str:
    if value is None:
        return NONE
    parts = number(value.get("psnr"), 2), number(value.get("vmaf"), 2), number(value["warp"], 3)
    return " / ".join(parts)


def fuzz(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Cases and findings by target."""
    rows = [
        [
            name,
            number(entry["seconds"], 0),
            f"{entry['cases']}",
            f"{len(entry['findings'])}",
            f"{sum(finding['open'] for finding in entry['findings'])}",
        ]
        for name, entry in facts["targets"].items()
    ]
    total = facts["total"]
    last = [number(total["seconds"], 0), number(total["cases"], 0)]
    rows.append(["**all**", *last, f"{total['findings']}", f"{total['open']}"])
    return [(facts["date"], (["target", "seconds", "cases", "findings", "still open"], rows))]


def soak(facts: Facts) -> Sequence[tuple[str, Table]]:
    """What every kind of long run came to."""
    rows = [
        [kind, ", ".join(f"{name} {value}" for name, value in told.items())]
        for kind, told in facts.items()
        if kind != "machine"
    ]
    return [("", (["run", "what it came to"], rows))]


def scale(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Measured seconds, and the simulated ones of many workers."""
    measured = [[workers, f"{seconds}"] for workers, seconds in facts["seconds"].items()]
    tables = [("measured", (["workers", "seconds"], measured))]
    for film, found in facts["simulated"].items():
        rows = [
            [workers, f"{told['seconds']}", f"{told['efficiency']:.0%}"]
            for workers, told in found.items()
        ]
        tables.append((f"simulated, {film}", (["workers", "seconds", "efficiency"], rows)))
    return tables


def cpu(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Every engine by network, mode and precision."""
    head = ["network", "engine", "mode", "ms/frame", "processor ms", "GFLOP/s", "dB from fp32"]
    rows = [
        [
            row["network"],
            row["engine"],
            row["mode"],
            number(row["milliseconds"], 1),
            number(row["processor_milliseconds"], 1),
            number(row["gflops"], 0),
            number(row.get("decibels"), 1),
        ]
        for row in facts["rows"]
    ]
    told = f"{facts['threads']} threads, best of {facts['rounds']} rounds"
    return [(told, (head, rows))]


def network(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Bare networks and the pipeline, beside the device's matrix limit."""
    head = ["network", "input", "engine", "precision", "batch", "network fps", "pipeline fps"]
    rows = [
        [
            row["network"],
            row["input"],
            row["engine"],
            row["precision"],
            f"{row['batch']}",
            number(row["network_fps"], 1),
            number(row["pipeline_fps"], 1),
            share(row["share"]),
        ]
        for row in facts["rows"]
    ]
    limits = ", ".join(f"{p} {rate / 1e12:.2f} TFLOP/s" for p, rate in facts["limits"].items())
    return [(f"matrix limit: {limits}", ([*head, "of limit"], rows))]


def kernels(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Own kernels beside the reference."""
    head = ["work", "input", "own ms", "reference ms", "ratio", "own TFLOP/s", "reference TFLOP/s"]
    rows = [
        [
            row["work"],
            row["input"],
            number(row["own_ms"], 3),
            number(row["reference_ms"], 3),
            number(row["reference_ms"] / row["own_ms"], 2),
            number(row.get("own_tflops"), 0),
            number(row.get("reference_tflops"), 0),
        ]
        for row in facts["rows"]
    ]
    return [(facts["precision"], (head, rows))]


def peers_table(facts: Facts) -> Table:
    """Speed of whole jobs; `vsr is` is how many times as fast, start-up included."""
    head = ["network", "input", "way", "kind", "fps", "steady fps", "peak memory", "vsr is"]
    ours = {(r["network"], r["input"]): r["fps"] for r in facts["rows"] if r["peer"] == "vsr"}
    rows = [
        [
            row["network"],
            row["input"],
            row["peer"],
            " ".join([row["origin"], row["version"]]).strip(),
            number(row["fps"], 1),
            number(row["steady_fps"], 1),
            NONE if row["peak_mb"] is None else f"{row['peak_mb']} MB",
            f"{ours[row['network'], row['input']] / row['fps']:.1f}×",
        ]
        for row in facts["rows"]
    ]
    return head, rows


def fidelity_table(facts: Facts) -> Table:
    """What each way loses of each film."""
    ways = list(dict.fromkeys(peer for lost in facts["lost"].values() for peer in lost))
    rows = [
        [film, *("; ".join(lost[way]) or "whole" if way in lost else NONE for way in ways)]
        for film, lost in facts["lost"].items()
    ]
    kinds = [" ".join([facts["origins"][way], facts["versions"][way]]).strip() for way in ways]
    head = [
        way if way == kind else f"{way} ({kind})" for way, kind in zip(ways, kinds, strict=True)
    ]
    return ["film", *head], rows


def peers(facts: Facts) -> Sequence[tuple[str, Table]]:
    """Speed and fidelity, as far as they were measured."""
    made = []
    if "speed" in facts:
        speed = facts["speed"]
        told = f"Whole jobs, x264 {speed['encoding']}{_absent(speed)}"
        made.append((told, peers_table(speed)))
    if "fidelity" in facts:
        lost = facts["fidelity"]
        made.append((f"What is lost{_absent(lost)}", fidelity_table(lost)))
    return made


def _absent(facts: Facts) -> str:
    names = ", ".join(facts.get("left_out", ()))
    return f" (not installed: {names})" if names else ""


def anything(facts: Facts) -> Sequence[tuple[str, Table]]:
    """A kind that has no table of its own."""
    return [("", plain(facts["rows"]))]


SECTIONS: dict[str, Section] = {
    "end_to_end": end_to_end,
    "peers": peers,
    "pipeline": pipeline,
    "cpu": cpu,
    "network": network,
    "kernels": kernels,
    "vapoursynth": vapoursynth,
    "repeats": repeats,
    "segments": segments,
    "quality": quality,
    "zoo": zoo,
    "codec": codec,
    "text": text,
    "training": training,
    "fuzz": fuzz,
    "soak": soak,
    "scale": scale,
}

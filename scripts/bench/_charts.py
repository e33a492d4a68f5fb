"""Result files as charts: for every kind of benchmark with a picture, what is drawn of its JSON.

A figure of these comes from the file alone, so pictures can be drawn again without measuring.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _drawing import Bars, Grid, Part

type Facts = Mapping[str, Any]
type Drawing = Callable[[Facts], Sequence[Part]]
type Groups = dict[str, dict[str, float]]


def end_to_end(facts: Facts) -> Sequence[Part]:
    """Steady rates of whole jobs."""
    groups: Groups = {}
    for row in facts["rows"]:
        label = f"{row.get('model', 'auto')}, {row.get('precision', 'auto')}"
        case = f"{row['input']} x{row['scale']}, x264 {row.get('preset', 'fast')}"
        groups.setdefault(case, {})[label] = row["steady_fps"]
    title = "Whole jobs, steady frames per second by model and precision: more is better"
    return [Bars(title=title, unit="fps", groups=groups)]


def pipeline(facts: Facts) -> Sequence[Part]:
    """The network alone, the pipeline, the whole job."""
    groups = {
        row["input"].replace("x", "×").replace(":", " x"): {
            "network alone": row["network_fps"],
            "pipeline without files": row["pipeline_fps"],
            "whole job with x264": row["whole_fps"],
        }
        for row in facts["rows"]
    }
    title = "vsr-fast, frames per second: more is better"
    return [Bars(title=title, unit="fps", groups=groups)]


def cpu(facts: Facts) -> Sequence[Part]:
    """Milliseconds of every engine, fastest first, for one caller; a chart for each network."""
    groups: Groups = {}
    for row in sorted(facts["rows"], key=lambda row: row["milliseconds"]):
        if row["mode"] == "alone":
            groups.setdefault(row["network"], {})[row["engine"]] = row["milliseconds"]
    title = "{}, ms per frame of one caller with {} threads: less is better"
    return [
        Bars(title=title.format(name, facts["threads"]), unit="ms", groups={"": group})
        for name, group in sorted(groups.items())
    ]


def network(facts: Facts) -> Sequence[Part]:
    """Bare networks and the pipeline around them; a chart for each network."""
    names: dict[str, Groups] = {}
    for row in facts["rows"]:
        group = names.setdefault(row["network"], {}).setdefault(row["input"], {})
        group[f"{row['engine']} {row['precision']}, network"] = row["network_fps"]
        group[f"{row['engine']} {row['precision']}, pipeline"] = row["pipeline_fps"]
    title = "{}, frames per second: more is better"
    return [
        Bars(title=title.format(name), unit="fps", groups=groups) for name, groups in names.items()
    ]


def kernels(facts: Facts) -> Sequence[Part]:
    """How many times as fast as the reference the own kernels are."""
    groups: Groups = {}
    for row in facts["rows"]:
        groups.setdefault(row["input"], {})[row["work"]] = row["reference_ms"] / row["own_ms"]
    title = f"Own kernels in {facts['precision']}, times as fast as cuDNN: more than 1 is faster"
    return [Bars(title=title, unit="×", groups=groups, digits=2)]


def peers(facts: Facts) -> Sequence[Part]:
    """Speed of whole jobs, and what each way loses of each film."""
    parts: list[Part] = []
    if "speed" in facts:
        groups: Groups = {}
        for row in facts["speed"]["rows"]:
            case = f"{row['network']} of {row['input']}"
            label = " ".join([row["peer"], row["version"]]).strip()
            groups.setdefault(case, {})[label] = row["fps"]
        title = "Whole jobs, frames per second with start-up: more is better"
        parts.append(Bars(title=title, unit="fps", groups=groups))
    if "fidelity" in facts:
        lost = facts["fidelity"]["lost"]
        ways = list(dict.fromkeys(way for found in lost.values() for way in found))
        rows = {film: [_lost(found.get(way)) for way in ways] for film, found in lost.items()}
        parts.append(Grid(title="What is lost of a film, by way to carry it", head=ways, rows=rows))
    return parts


def _lost(things: Sequence[str] | None) -> tuple[str, int | None]:
    if things is None:
        return "–", None
    if not things:
        return "whole", 0
    if list(things) == ["fails"]:
        return "fails", 2
    return (things[0] if len(things) == 1 else f"{len(things)} losses"), 1


def vapoursynth(facts: Facts) -> Sequence[Part]:
    """What engine and filter add to the bare network."""
    walls = facts["milliseconds"]
    bare = walls["network"]
    groups: Groups = {}
    for name, ms in walls.items():
        what, _, fmt = name.partition(" ")
        if fmt:
            groups.setdefault(fmt, {})[f"{what} alone" if what == "engine" else what] = 100 * (
                ms / bare - 1
            )
    title = f"{facts['size']}: time added to the network's {bare:.1f} ms a frame: less is better"
    return [Bars(title=title, unit="%", groups=groups)]


def quality(facts: Facts) -> Sequence[Part]:
    """PSNR gained over bicubic, which all papers give."""
    scores = facts["scores"]
    base = scores.get("bicubic", {})
    groups: Groups = {}
    for model, row in scores.items():
        for column, score in row.items():
            if model != "bicubic" and score and base.get(column):
                name = f"{column} (bicubic {base[column]['psnr']:.2f} dB)"
                groups.setdefault(name, {})[model] = score["psnr"] - base[column]["psnr"]
    title = "PSNR on luma gained over bicubic: more is better"
    return [Bars(title=title, unit="dB", groups=groups, digits=2)]


def codec(facts: Facts) -> Sequence[Part]:
    """PSNR gained over bicubic by CRF; a chart for each factor."""
    parts = []
    for scale, scores in facts["scores"].items():
        groups: Groups = {}
        for model, row in scores.items():
            for crf, score in row.items():
                base = scores.get("bicubic", {}).get(crf, {}).get("psnr")
                if model != "bicubic" and base is not None and score.get("psnr") is not None:
                    damage = "undamaged" if crf == "none" else f"H.264, CRF {crf}"
                    group = groups.setdefault(f"{damage} (bicubic {base:.2f} dB)", {})
                    group[model] = score["psnr"] - base
        title = f"{scale}: PSNR gained over bicubic, by damage: more is better"
        parts.append(Bars(title=title, unit="dB", groups=groups, digits=2))
    return parts


def repeats(facts: Facts) -> Sequence[Part]:
    """Rates of films whose pictures stay."""
    group = {
        f"{row['film']} ({row['reused']:.0%} not computed again)": row["fps"]
        for row in facts["rows"]
    }
    title = "Films whose pictures stay, frames per second: more is better"
    return [Bars(title=title, unit="fps", groups={"": group})]


def segments(facts: Facts) -> Sequence[Part]:
    """Bytes that cutting adds."""
    group = {run["encoder"]: 100 * (run["bytes"][1] / run["bytes"][0] - 1) for run in facts["runs"]}
    title = f"Bytes that segments of {facts['segment']} frames add, by encoder: less is better"
    return [Bars(title=title, unit="%", groups={"": group}, digits=2)]


def fleet(facts: Facts) -> Sequence[Part]:
    """Rates by number of members."""
    group = {_counted(row["members"], "member"): row["fps"] for row in facts["rows"]}
    title = "CPU members on one machine, frames per second: more is better"
    return [Bars(title=title, unit="fps", groups={"": group})]


def scale(facts: Facts) -> Sequence[Part]:
    """Measured seconds, and the simulated efficiency of many workers."""
    measured = {_counted(n, "worker"): seconds for n, seconds in facts["seconds"].items()}
    groups = {
        film: {_counted(n, "worker"): 100 * each["efficiency"] for n, each in found.items()}
        for film, found in facts["simulated"].items()
    }
    return [
        Bars(title="A job here, seconds: less is better", unit="s", groups={"": measured}),
        Bars(title="Efficiency of many workers, simulated", unit="%", groups=groups),
    ]


def _counted(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


DRAWINGS: dict[str, Drawing] = {
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
    "codec": codec,
    "fleet": fleet,
    "scale": scale,
}


def charts(kind: str, facts: Facts) -> list[Part]:
    """What is drawn of a result file: nothing where its kind has no picture, or it no figures."""
    parts = DRAWINGS[kind](facts) if kind in DRAWINGS else ()
    return [part for part in parts if not isinstance(part, Bars) or any(part.groups.values())]

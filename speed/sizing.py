"""What the full MicroLens would take, from measured figures; writes speed/results/sizing.json and docs/scale.md.

    python speed/sizing.py

Every figure of an item or an interaction is read from the other results. The sizes of the full set are the published
ones; the machines and prices are assumptions, to be replaced by one's own.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from microlens.files.writing import write_text

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "scale.md"
BEGIN, END = "<!-- sizing: written by speed/sizing.py -->", "<!-- end of the sizing -->"
EPOCH_USERS = 100_000  # of the epochs in gpu.json
GIGA, TERA, HOUR = 1e9, 1e12, 3600.0


@dataclass(frozen=True, kw_only=True)
class FullSet:
    """The published size; bytes of a video as in MicroLens-100K, 477,059,532,061 / 19,738."""

    users: int = 34_500_000
    videos: int = 1_140_000
    interactions: int = 1_000_000_000
    video_bytes: float = 477_059_532_061 / 19_738


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Assumed machines and list prices in US dollars."""

    machines: int = 16
    cores: int = 16
    network_gigabits: float = 5.0
    dollars_machine_hour: float = 0.70
    dollars_gpu_hour: float = 3.00
    dollars_gigabyte_month: float = 0.023
    download_gigabits: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A quantity, how it is computed, and its value."""

    what: str
    formula: str
    value: float
    unit: str


def read(name: str) -> dict[str, Any]:
    """The figures of a result."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["results"]
    return results


def measured() -> dict[str, float]:
    """The figures of an item and an interaction."""
    items, engines, gpu = read("per_item"), read("engines"), read("gpu")
    mean, interaction = items["mean"], items["interaction"]
    slowfast = gpu["top1"]["slowfast_r50 top1, warm cache, bf16, contiguous"]["figures"]
    sasrec = gpu["ids"]["D=512 in-batch-softmax fp32"]["figures"]
    return {
        **{f"{kind}_bytes": mean[kind]["stored_bytes"] for kind in ("clips", "sound", "covers")},
        **{f"{kind}_seconds": mean[kind]["cpu_seconds"] for kind in ("clips", "sound", "covers")},
        "verify_seconds": mean["clips"]["verify_cpu_seconds"] + mean["covers"]["verify_cpu_seconds"],
        "interaction_bytes": interaction["stored_bytes"],
        "interaction_seconds": interaction["cpu_seconds"],
        "ray_over_local": engines["cpu_seconds"]["ray, running"] / engines["cpu_seconds"]["local"],
        "features_per_second": slowfast["clips_cached_per_second"],
        "feature_bytes": 4 * 2304,
        "epoch_seconds": 60 * sasrec["minutes_per_epoch"],
    }


def rows(m: dict[str, float], full: FullSet, have: Machines) -> list[Row]:
    """The quantities of the full set."""
    video_seconds = m["clips_seconds"] + m["sound_seconds"] + m["covers_seconds"]
    stored = m["clips_bytes"] + m["sound_bytes"] + m["covers_bytes"]
    raw = full.videos * full.video_bytes
    core_hours = full.videos * video_seconds / HOUR
    verify_hours = full.videos * m["verify_seconds"] / HOUR
    decode_hours = core_hours * m["ray_over_local"] / (have.machines * have.cores)
    read_hours = raw * 8 / (have.machines * have.network_gigabits * GIGA) / HOUR
    gpu_hours = full.videos / m["features_per_second"] / HOUR
    hours = max(decode_hours, read_hours)
    return [
        Row(what="videos as downloaded", formula="videos x bytes of a video", value=raw / TERA, unit="TB"),
        Row(what="their download", formula="bytes x 8 / download rate",
            value=raw * 8 / (have.download_gigabits * GIGA) / HOUR, unit="hours"),
        Row(what="clips", formula="videos x bytes of a clip", value=full.videos * m["clips_bytes"] / GIGA, unit="GB"),
        Row(what="sound", formula="videos x bytes of sound", value=full.videos * m["sound_bytes"] / GIGA, unit="GB"),
        Row(what="covers", formula="videos x bytes of a cover",
            value=full.videos * m["covers_bytes"] / GIGA, unit="GB"),
        Row(what="decoding", formula="videos x (clip + sound + cover seconds)", value=core_hours, unit="core-hours"),
        Row(what="decoding on the cluster", formula="core-hours x Ray / (machines x cores)",
            value=decode_hours, unit="hours"),
        Row(what="reading the videos meanwhile", formula="bytes x 8 / (machines x network rate)",
            value=read_hours, unit="hours"),
        Row(what="cost of decoding", formula="machines x the longer of both x price",
            value=have.machines * hours * have.dollars_machine_hour, unit="$"),
        Row(what="verification", formula="videos x seconds to verify a video and its cover",
            value=verify_hours, unit="core-hours"),
        Row(what="cost of the verification", formula="core-hours x Ray / cores x price",
            value=verify_hours * m["ray_over_local"] / have.cores * have.dollars_machine_hour, unit="$"),
        Row(what="assembly of the stores on one machine", formula="3 x stored bytes x 8 / network rate",
            value=3 * full.videos * stored * 8 / (have.network_gigabits * GIGA) / HOUR, unit="hours"),
        Row(what="features, SlowFast-R50", formula="videos / clips per second of a GPU",
            value=gpu_hours, unit="GPU-hours"),
        Row(what="cost of the features", formula="GPU-hours x price",
            value=gpu_hours * have.dollars_gpu_hour, unit="$"),
        Row(what="feature file", formula="videos x 2,304 x 4 bytes",
            value=full.videos * m["feature_bytes"] / GIGA, unit="GB"),
        Row(what="interactions of a dataset", formula="interactions x bytes of one",
            value=full.interactions * m["interaction_bytes"] / GIGA, unit="GB"),
        Row(what="reading and sorting them", formula="interactions x seconds of one",
            value=full.interactions * m["interaction_seconds"] / HOUR, unit="core-hours"),
        Row(what="epoch of SASRec on ids, D = 512", formula=f"seconds of an epoch x users / {EPOCH_USERS:,}",
            value=m["epoch_seconds"] * full.users / EPOCH_USERS / HOUR, unit="GPU-hours"),
        Row(what="a month of videos and stores in a bucket", formula="bytes x price",
            value=(raw + full.videos * stored) / GIGA * have.dollars_gigabyte_month, unit="$"),
    ]  # fmt: skip


def document() -> dict[str, Any]:
    """The content of sizing.json."""
    figures, full, have = measured(), FullSet(), Machines()
    return {
        "name": "sizing",
        "full_set": asdict(full),
        "assumed": asdict(have),
        "measured": figures,
        "results": [asdict(row) for row in rows(figures, full, have)],
    }


def tables(sizes: dict[str, Any]) -> str:
    """The tables of docs/scale.md."""
    inputs = {**sizes["measured"], **sizes["assumed"], **sizes["full_set"]}
    lines = ["| figure | value | from |", "|---|---:|---|"]
    origin = {**dict.fromkeys(sizes["measured"], "measured"), **dict.fromkeys(sizes["assumed"], "assumed")}
    lines += [
        f"| {name.replace('_', ' ')} | {shown(value)} | {origin.get(name, 'published')} |"
        for name, value in inputs.items()
    ]
    lines += ["", "| of the full set | formula | value |", "|---|---|---:|"]
    lines += [f"| {row['what']} | {row['formula']} | {shown(row['value'])} {row['unit']} |" for row in sizes["results"]]
    return "\n".join(lines)


def shown(value: float) -> str:
    """Three significant digits, or a whole number with separators."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def with_tables(page: str, sizes: dict[str, Any]) -> str:
    """The text of docs/scale.md with the tables made anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(sizes)}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Compute the sizes, and write the result and the page."""
    sizes = document()
    write_text(RESULTS / "sizing.json", json.dumps(sizes, indent=1) + "\n")
    write_text(PAGE, with_tables(PAGE.read_text(), sizes))


if __name__ == "__main__":
    main()

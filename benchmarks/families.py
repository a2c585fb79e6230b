"""What every family of video encoders learns end to end from random weights, printed as JSON.

    python benchmarks/families.py RUNS [--dataset datasets/demo-2x32] [--only x3d_xs ...] [--epochs 8]

SASRec over each encoder is trained on the synthetic release, once with all weights trained and once with the encoder
frozen as it was drawn. The encoders and recommender never see an id, so that items nobody watched before can be found by
their pixels only; an unskilled guess finds 10 of N items. Runs that RUNS holds already are not made again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from measure import Line, print_result

from microlens.report import Report

FAMILIES = ("r3d_r18", "r3d_r50", "x3d_xs", "c2d_r50", "csn_r101", "slowfast_r50", "mvit_b_16x4", "videomae")
TRANSFORMERS = ("mvit_b_16x4", "videomae")  # at the rate of the others they do not begin to learn
TIMES_CHANCE = 5.0
CONFIG = Path(__file__).parents[1] / "configs" / "demo" / "sasrec-video.toml"


def train(name: str, tune: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one encoder under one regime."""
    output = options.runs / f"{name}-{tune}"
    rate = 2e-4 if name in TRANSFORMERS and tune == "scratch" else 1e-3
    settings = {
        "dataset": f'"{options.dataset}"',
        "output": f'"{output}"',
        "encoder": f'{{ name = "{name}", tune = "{tune}" }}',
        "train.epochs": options.epochs if tune == "scratch" else 4 * options.epochs,
        "train.encoder_lr": rate,
        "train.precision": '"bf16"',
    }
    if not (output / "report.json").exists():
        command = [sys.executable, "-m", "microlens", "train", str(CONFIG)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    report = Report.read(output)
    return {
        "encoder": name,
        "tune": tune,
        "encoder_lr": rate,
        "HR@10": {cohort: metrics["HR@10"] for cohort, metrics in report.metrics["test"].items()},
        **{key: report.cost[key] for key in ("parameters", "best_epoch", "seconds_per_epoch", "peak_memory_bytes")},
        "protocol": report.protocol["hash"],
        "commit": report.provenance["commit"],
        "config": report.provenance["config_hash"],
    }


def main() -> None:
    """Train all that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="where the run folders go")
    parser.add_argument("--dataset", type=Path, default=Path("datasets/demo-2x32"))
    parser.add_argument("--only", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    rows = [train(name, tune, options) for name in options.only for tune in ("scratch", "frozen")]
    num_items = json.loads((options.dataset / "manifest.json").read_text(encoding="utf-8"))["counts"]["items"]
    lines = [
        Line(
            what=f"cold HR@10 of {row['encoder']} trained from random weights, times chance",
            measured=row["HR@10"]["cold"] * num_items / 10, unit="x", bound="at least", reach=TIMES_CHANCE,
        )
        for row in rows if row["tune"] == "scratch"
    ]  # fmt: skip
    print_result("families", options, [torch.get_num_threads()], {"chance": 10 / num_items, "rows": rows}, lines)


if __name__ == "__main__":
    main()

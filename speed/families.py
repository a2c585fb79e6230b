"""What every family of video encoders learns end to end from random weights, printed as JSON.

    python speed/families.py RUNS [--dataset datasets/demo-2x32] [--only x3d_xs ...] [--precision bf16]

SASRec over each encoder is trained on the synthetic release, once with all weights trained and once with the encoder
frozen as it was drawn. They never see an id, so items that nobody watched before can be found by their pixels
only; an unskilled guess finds 10 of N items. Runs that RUNS holds already are not made again, whatever their
precision; bf16 saves time only where the processor has instructions for it, and a warning says where it does not.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from measure import Line, print_result

from microlens.evaluation.report import Report

FAMILIES = {  # the rate of the encoder's own weights, and epochs
    "r3d_r18": (1e-3, 4),
    "r3d_r50": (1e-3, 8),
    "x3d_xs": (1e-3, 8),
    "c2d_r50": (1e-3, 8),
    "i3d_r50": (1e-3, 8),
    "slow_r50": (1e-3, 8),
    "csn_r101": (1e-3, 8),
    "slowfast_r50": (1e-3, 8),
    "mvit_b_16x4": (3e-5, 14),
    "videomae": (3e-5, 8),
}
FROZEN_EPOCHS = 32
TIMES_CHANCE = 5.0
CONFIG = Path(__file__).parents[1] / "configs" / "demo" / "sasrec-video.toml"


def train(name: str, tune: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one encoder under one regime."""
    output = options.runs / f"{name}-{tune}"
    rate, epochs = FAMILIES[name]
    settings = {
        "dataset": f'"{options.dataset}"',
        "output": f'"{output}"',
        "encoder": f'{{ name = "{name}", tune = "{tune}" }}',
        "train.epochs": epochs if tune == "scratch" else FROZEN_EPOCHS,
        "train.encoder_lr": rate,
        "train.precision": f'"{options.precision}"',
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
        "epochs": report.cost["epochs"],
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
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--only", nargs="+", default=tuple(FAMILIES), choices=FAMILIES)
    options = parser.parse_args()
    rows = [train(name, tune, options) for name in options.only for tune in ("scratch", "frozen")]
    manifest = json.loads((options.dataset / "manifest.json").read_text(encoding="utf-8"))
    num_items = manifest["counts"]["paper_protocol"]["items"]
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

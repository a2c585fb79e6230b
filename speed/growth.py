"""How costs grow with users, items and the vector size, printed as JSON with the exponents, or drawn from that JSON.

    python speed/growth.py [--smoke]
    python speed/growth.py --draw results/growth.json ../docs/growth.png

One quantity grows at a time, the others keep their first value. For each size, ``many_users.py`` prepares made
interactions and takes steps of SASRec on ids (in-batch softmax, 128 users a batch) and ranks users among all items, in
processes of its own with one thread. An exponent is the slope of a line through the logarithms: 0 does not grow, 1
grows in proportion. The rate of a matrix product of this run says how far ranking is from what the processor can do.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import cpu_seconds, print_result

SIZES = {
    "items": [20_000, 100_000, 300_000, 1_000_000],
    "users": [10_000, 100_000, 1_000_000],
    "dim": [64, 128, 256, 512],
}
SMOKE = {"items": [300, 600], "users": [3000, 4000], "dim": [16, 32]}
COSTS = {
    "prepare": ("prepare", "cpu_seconds", "data prepare, s"),
    "open": ("dataset, split and model", "cpu_seconds", "open, split, model, s"),
    "step": ("step", "cpu_seconds", "a training step, s"),
    "user ranked": ("user ranked", "cpu_seconds", "ranking a user, s"),
    "memory": ("user ranked", "peak_gigabytes", "peak memory, bytes"),
}
AXES = {"items": "items", "users": "users", "dim": "size of vectors"}
PRODUCT = 2048


def multiplied_per_second() -> float:
    """The rate of a matrix product with one thread: multiply-adds a CPU second, the best of five."""
    import torch

    torch.set_num_threads(1)
    matrix, best = torch.rand(PRODUCT, PRODUCT), 0.0
    for _ in range(5):
        begin = cpu_seconds()
        matrix @ matrix
        best = max(best, PRODUCT**3 / (cpu_seconds() - begin))
    return best


def measured(users: int, items: int, dim: int) -> dict[str, Any]:
    """The stages of ``many_users.py``."""
    command = [sys.executable, str(Path(__file__).with_name("many_users.py"))]
    size = ["--users", str(users), "--items", str(items), "--dim", str(dim)]
    answer = subprocess.run([*command, *size], check=True, stdout=subprocess.PIPE, text=True).stdout
    results: dict[str, Any] = json.loads(answer)["results"]
    return results


def grow(sizes: dict[str, list[int]]) -> dict[str, Any]:
    """Costs of every size of every quantity, and their exponents."""
    first = {name: values[0] for name, values in sizes.items()}
    first["users"] = sizes["users"][min(1, len(sizes["users"]) - 1)]
    curves: dict[str, Any] = {}
    for name, values in sizes.items():
        others = {other: value for other, value in first.items() if other != name}
        if name == "items":
            others["users"] = sizes["users"][-1]  # items that nobody has used are not in the dataset
        points = [measured(**{**others, name: value}) for value in values]
        if name != "dim":
            values = [point[name] for point in points]
        costs = {cost: [point["stages"][stage][key] for point in points] for cost, (stage, key, _) in COSTS.items()}
        curves[name] = {
            "sizes": values,
            "others": others,
            "costs": costs,
            "exponents": {cost: exponent(values, found) for cost, found in costs.items()},
        }
    return curves


def exponent(sizes: list[int], costs: list[float]) -> float:
    """The slope of the line through the logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 2)


def shares(curves: dict[str, Any], rate: float) -> dict[str, float]:
    """The share of the processor's matrix rate that products of states and items have in ranking, by size of D."""
    curve = curves["dim"]
    items = curve["others"]["items"]
    pairs = zip(curve["sizes"], curve["costs"]["user ranked"], strict=True)
    return {str(dim): round(items * dim / seconds / rate, 3) for dim, seconds in pairs}


def draw(results: dict[str, Any], picture: Path) -> None:
    """Draw every cost over every quantity, with the exponents."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(10, 11), layout="constrained")
    grid = figure.subplots(len(COSTS), len(AXES), sharey="row", sharex="col", squeeze=False)
    for row, (cost, (_, _, label)) in zip(grid, COSTS.items(), strict=True):
        for axes, (name, quantity) in zip(row, AXES.items(), strict=True):
            curve = results["growth"][name]
            axes.loglog(
                curve["sizes"],
                np.array(curve["costs"][cost]) * (1e9 if cost == "memory" else 1),
                "o-",
                color="#2b6cb0",
                markersize=4,
            )
            axes.set_title(f"exponent {curve['exponents'][cost]:.2f}", fontsize=9, loc="left")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(EngFormatter(sep=""))
                axis.set_minor_locator(NullLocator())
            if name == "dim":
                axes.set_xticks(curve["sizes"], map(str, curve["sizes"]))
            axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            if name == "items":
                axes.set_ylabel(label, fontsize=9)
            if cost == list(COSTS)[-1]:
                axes.set_xlabel(quantity, fontsize=9)
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Measure, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("JSON", "PICTURE"), help="draw stored results")
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(options.draw[0].read_text())["results"], options.draw[1])
        return
    begin = time.perf_counter()
    rate = multiplied_per_second()
    curves = grow(SMOKE if options.smoke else SIZES)
    results = {
        "growth": curves,
        "multiply_adds_per_cpu_second": round(rate),
        "ranking_share_of_matrix_rate": shares(curves, rate),
        "minutes": round((time.perf_counter() - begin) / 60, 1),
    }
    print_result("growth", options, [1], results, [])


if __name__ == "__main__":
    main()

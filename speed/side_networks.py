"""What adapting a frozen text encoder costs: side networks over cached layers beside full tuning, printed as JSON.

    python speed/side_networks.py --dataset datasets/microlens-50k --layers LAYERS.npy [--steps 3]

SASRec over MiniLM and the titles of a prepared dataset, d = 64, 64 users a batch as in IISAN's code, one thread. Each
way is a process of its own, because a process keeps its peak of memory. LAYERS is what ``microlens features DATASET
--encoder minilm --layers all`` wrote; without, layers of noise of the same size are made. A batch is encoded in one
piece, and nothing but the layers is cached. ``--smoke`` makes a tiny dataset.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from measure import SMOKE, Line, cpu_seconds, long_tailed_sequences, peak_bytes, print_result, write_release

DIM, BATCH_SIZE, LAYERS, WIDTH = 64, 64, 7, 384
MINILM = {"name": "minilm"}
WAYS: dict[str, dict[str, Any]] = {
    "full tuning": {**MINILM, "tune": "full"},
    "low-rank adapters": {**MINILM, "tune": "lora"},
    "iisan": {"name": "iisan"},
    "layer_mix": {"name": "layer_mix"},
}
EXTRACTION = "extraction"
EXTRACTED = 128  # items


def made_dataset(folder: Path) -> Path:
    """A tiny dataset with titles."""
    from microlens.data.prepare import prepare
    from microlens.media.decoding import Settings

    release = write_release(folder / "release", long_tailed_sequences(SMOKE), "tsv")
    titles = [f"{item},a video of thing number {item % 9}\n" for item in range(1, SMOKE.items + 1)]
    (release / "bench_titles.csv").write_text("".join(["item,title\n", *titles]))
    prepare(release, folder / "dataset", Settings())
    return folder / "dataset"


def made_layers(dataset: Path, folder: Path) -> Path:
    """Noise in the size of MiniLM's layers."""
    import numpy as np

    from microlens.data.dataset import Dataset

    ids = Dataset(dataset).items["item_id"].to_numpy()
    path = folder / "layers.npy"
    np.save(path, np.random.default_rng(0).normal(size=(len(ids), LAYERS, WIDTH)).astype(np.float16))
    np.save(path.with_suffix(".ids.npy"), ids)
    return path


def train(way: str, dataset: Path, layers: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Seconds of a step, the median of all but the first, and the most memory; for a process of its own."""
    import torch
    from training import trainer_of

    from microlens.config.run_config import RunConfig
    from microlens.runs.assembly import build_experiment

    torch.set_num_threads(1)
    files = {"iisan": {"paths": [str(layers)]}, "layer_mix": {"path": str(layers)}}.get(way, {})
    run = build_experiment(
        RunConfig.model_validate(
            {
                "dataset": dataset,
                "output": folder / "run",
                "model": {"name": "sasrec", "dim": DIM},
                "encoder": {**WAYS[way], **files},
                "train": {"batch_size": BATCH_SIZE, "micro_batch": 65_536, "device": "cpu", "cache": False},
            }
        )
    )
    trainer = trainer_of(run, folder)
    built = peak_bytes()
    cpu, wall, items = [], [], []
    for batch in islice(trainer._batches(), steps + 1):
        begin_cpu, begin = cpu_seconds(), time.perf_counter()
        trainer.step(batch)
        cpu.append(cpu_seconds() - begin_cpu)
        wall.append(time.perf_counter() - begin)
        items.append(len(batch.distinct))
    seconds = statistics.median(cpu[1:])
    trained = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    return {
        "cpu_seconds_a_step": round(seconds, 4),
        "wall_seconds_a_step": round(statistics.median(wall[1:]), 4),
        "cpu_seconds_each": [round(value, 4) for value in cpu],
        "items_a_step": round(statistics.mean(items)),
        "steps_an_epoch": trainer.steps_per_epoch,
        "cpu_seconds_an_epoch": round(seconds * trainer.steps_per_epoch, 1),
        "trained_parameters": trained,
        "peak_bytes": peak_bytes(),
        "peak_bytes_of_the_steps": peak_bytes() - built,
    }


def extract(dataset: Path) -> dict[str, Any]:
    """Seconds of computing the layers, of some items and, from these, of all."""
    import numpy as np
    import torch

    from microlens.data.content import ItemContent
    from microlens.data.dataset import Dataset
    from microlens.encoders import build_encoder
    from microlens.encoders.content import ContentEncoder
    from microlens.runs.assembly import dataset_arguments
    from microlens.runs.feature_vectors import VectorsPerItem
    from microlens.training.extraction import ITEMS_AT_ONCE, compute_group

    torch.set_num_threads(1)
    data = Dataset(dataset)
    numbers = np.arange(data.interactions.num_items + 1)
    given = {**dataset_arguments(data, numbers), "item_ids": data.item_id_array(numbers), "dim": DIM}
    tower = build_encoder({**MINILM, "tune": "frozen"}, given).eval()
    assert isinstance(tower, ContentEncoder)
    compute = VectorsPerItem(layers="all").compute(tower, "minilm")
    content = ItemContent(data, data.interactions.item_ids, tower.needs)
    begin, count = cpu_seconds(), min(EXTRACTED, len(numbers) - 1)
    for start in range(1, count + 1, ITEMS_AT_ONCE):
        compute_group(compute, content, numbers[start : start + ITEMS_AT_ONCE], torch.device("cpu"), half=True)
    each = (cpu_seconds() - begin) / count
    return {"cpu_seconds_an_item": round(each, 5), "cpu_seconds_of_all": round(each * (len(numbers) - 1), 1)}


def in_a_process(way: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one way in a fresh interpreter."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--steps", str(options.steps)]
    command += ["--dataset", str(options.dataset), "--layers", str(options.layers)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def main() -> None:
    """Measure all ways, or be the process of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny dataset, to see that the program works")
    parser.add_argument("--dataset", type=Path, help="a prepared dataset with titles")
    parser.add_argument("--layers", type=Path, help="the layers of MiniLM of its titles")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each way, after a first one")
    parser.add_argument("--way", choices=[*WAYS, EXTRACTION], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        found = (
            extract(options.dataset)
            if options.way == EXTRACTION
            else train(options.way, options.dataset, options.layers, options.folder, options.steps)
        )
        print(json.dumps(found))
        return
    if (options.dataset is None) != options.smoke:
        parser.error("give either --dataset or --smoke")
    arguments = argparse.Namespace(smoke=options.smoke, steps=options.steps)  # no paths in the result
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options.dataset = options.dataset or made_dataset(folder)
        options.layers = options.layers or made_layers(options.dataset, folder)
        results: dict[str, Any] = {way: in_a_process(way, options, folder) for way in WAYS}
        results[EXTRACTION] = in_a_process(EXTRACTION, options, folder)
        results["bytes_of_layers"] = options.layers.stat().st_size
    full, side = results["full tuning"], results["iisan"]
    lines = [
        Line(
            what="iisan beside full tuning, times as fast",
            measured=full["cpu_seconds_a_step"] / side["cpu_seconds_a_step"],
            unit="x",
            bound="at least",
            reach=443 / 22,  # the paper's seconds an epoch
        ),
        Line(
            what="full tuning beside iisan, times the memory",
            measured=full["peak_bytes_of_the_steps"] / max(1, side["peak_bytes_of_the_steps"]),
            unit="x",
            bound="at least",
            reach=47 / 3,  # the paper's gigabytes
        ),
    ]
    print_result("side_networks", arguments, [1], results, lines)


if __name__ == "__main__":
    main()

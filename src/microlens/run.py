"""The one place that turns a configuration into objects and runs them."""

import inspect
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from microlens import checkpoint, environment
from microlens.building import build, pick
from microlens.config import NOT_IN_HASH, RunConfig
from microlens.cost import run_cost
from microlens.data.batches import Place
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.examples import Examples
from microlens.data.interactions import Int64
from microlens.data.protocol import Protocol
from microlens.data.split import Part, Split
from microlens.distributed import local_device, process_group, wait_for_all
from microlens.encoders import build_encoder
from microlens.errors import InputError
from microlens.evaluate import rank_targets
from microlens.files import alone_in, write_text
from microlens.progress import TrainingDisplay, extraction_display
from microlens.recommenders import RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.recommenders.counting import train_part
from microlens.recommenders.fitted import Fitted
from microlens.report import PARTS, Report, measure, write_ranks
from microlens.tracking import OnEpoch, tracked
from microlens.train import Progress, Trainer
from microlens.trunk_cache import use_trunk_caches


@dataclass(frozen=True, kw_only=True)
class Run:
    """The objects that a configuration describes."""

    config: RunConfig
    dataset: Dataset
    split: Split
    content: ItemContent
    model: Recommender
    device: torch.device

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must share with this run."""
        return {"config_hash": self.config.hash, "data_hash": self.dataset.checksum}

    @property
    def best(self) -> Path:
        """The checkpoint that did best on validation."""
        return self.config.output / "checkpoints" / "best.safetensors"

    def item_ids(self) -> Int64:
        """The original id of each item number, (N+1,)."""
        return self.dataset.interactions.item_ids[self.split.items_kept]


def build_run(config: RunConfig) -> Run:
    """Build everything that ``config`` describes; the model's weights depend on the seed alone.

    Raises:
        InputError: the data is missing or does not suit the encoder, or an option is wrong.
    """
    dataset = Dataset(config.dataset)
    split = dataset.split(Protocol(**config.protocol.model_dump()))
    item_ids = dataset.interactions.item_ids[split.items_kept]
    torch.manual_seed(config.seed)
    model = _build_model(config, dataset, split, item_ids)
    encoder = model.item_encoder
    content = ItemContent(dataset, item_ids, encoder.needs, config.train.workers, encoder.may_lack)
    device = local_device(config.train.device)
    return Run(config=config, dataset=dataset, split=split, content=content, model=model.to(device), device=device)


def _build_model(config: RunConfig, dataset: Dataset, split: Split, item_ids: Int64) -> Recommender:
    world: dict[str, Any] = {
        **content_world(dataset, split.items_kept),
        "dim": config.model.dim,
        "num_items": split.num_items,
        "num_users": split.num_users,
        "item_ids": item_ids,
        "history_length": split.history_length,
        "train_counts": torch.from_numpy(split.train_counts),
        "train_pairs": tuple(map(torch.from_numpy, train_part(split))),
    }
    constructor = pick(RECOMMENDERS, config.model.name, "model.name")
    takes_encoder = "item_encoder" in inspect.signature(constructor).parameters
    if takes_encoder and config.encoder is None:
        raise InputError(
            f"model.name is '{config.model.name}', which needs an item encoder: add [encoder] name = \"id\"."
        )
    if config.encoder is not None:
        if not takes_encoder:
            raise InputError(f"model.name is '{config.model.name}', which takes no [encoder]; leave that table out.")
        world["item_encoder"] = build_encoder(config.encoder.model_dump(), world)
    return build(constructor, config.model.options(), world, "model")


def content_world(dataset: Dataset, numbers: Int64) -> dict[str, Any]:
    """What encoders may ask for of a dataset's content: titles, tags, the shape (F, size) of clips, the size of covers.

    Args:
        dataset: where the content lies.
        numbers: (N+1,) the dataset's number of each item number, the first unused.
    """
    settings = dataset.manifest["settings"]["clips"]
    rows = dataset.items.select(pl.col("title", "tag").fill_null(""))[numbers[1:] - 1]
    return {
        "titles": rows["title"].to_list(),
        "tags": rows["tag"].to_list(),
        "clip_shape": (settings["num_frames"], settings["size"]),
        "cover_size": dataset.manifest["settings"]["cover_size"],
    }


def use_caches(run: Run, place: Place | None = None, *, quiet: bool) -> None:
    """Run what is frozen of the item tower once over the catalogue, unless that was done or is not wanted."""
    if not run.config.train.cache:
        return
    with extraction_display("frozen trunk", quiet=quiet) as on_progress:
        use_trunk_caches(
            run.model.item_encoder,
            run.content,
            run.dataset,
            run.item_ids(),
            run.device,
            place=place or Place(),
            on_progress=on_progress,
        )


def train(config: RunConfig, *, fresh: bool = False, quiet: bool = False) -> Report:
    """Train a run to its end, or the rest of it, and report; a finished run is only read.

    Args:
        config: the run.
        fresh: throw away what the run folder holds and start again.
        quiet: show nothing.

    Raises:
        InputError: the run folder holds a run of another configuration or other data.
    """
    folder = config.output
    folder.mkdir(parents=True, exist_ok=True)
    group = process_group(local_device(config.train.device))
    with group as place, alone_in(folder) if place.rank == 0 else nullcontext():
        if fresh and place.rank == 0:
            _clear(folder)
        wait_for_all(place)
        return _train(config, place, quiet or place.rank > 0)


def _train(config: RunConfig, place: Place, quiet: bool) -> Report:
    run = build_run(config)
    folder = config.output
    _check_same_run(run)
    if (folder / "report.json").exists():
        return Report.read(folder)
    if place.rank == 0:
        write_text(folder / "config.toml", config.toml())
        write_text(folder / "environment.json", json.dumps(environment.describe(run.device), indent=1) + "\n")
    use_caches(run, place, quiet=quiet)
    progress = Progress()
    if isinstance(run.model, Fitted):
        progress.train_seconds = _fit_at_once(run, run.model, place)
    elif any(parameter.requires_grad for parameter in run.model.parameters()):
        progress = _fit(run, place, quiet)
    elif place.rank == 0:
        checkpoint.save(run.best, checkpoint.with_prefix("model", run.model.state_dict()), {"epoch": 0, **run.identity})
    return _report(run, progress, place)


def _fit_at_once(run: Run, model: Fitted, place: Place) -> float:
    """Fit a model without gradients and save it, unless that was done; returns the seconds that fitting took."""
    if place.rank:
        return 0.0
    facts = checkpoint.load_facts(run.best) if run.best.exists() else {}
    if any(facts.get(name) != value for name, value in run.identity.items()):
        torch.manual_seed(run.config.seed)
        started = time.monotonic()
        model.fit(run.split)
        facts = {"epoch": 0, "seconds": time.monotonic() - started, **run.identity}
        checkpoint.save(run.best, checkpoint.with_prefix("model", model.state_dict()), facts)
    return float(facts["seconds"])


def trainer_of(run: Run, place: Place | None = None) -> tuple[Trainer, bool]:
    """The trainer of a run, where the run folder's checkpoint or the configured start left it; and whether it resumed.

    Raises:
        InputError: there are more processes than a batch has rows, or the configured start does not fit.
    """
    place = place or Place()
    if place.world > run.config.train.batch_size:
        raise InputError(
            f"train.batch_size is {run.config.train.batch_size}; {place.world} processes need at least as many."
        )
    trainer = Trainer(
        run.model,
        run.split,
        run.content,
        run.config.train,
        seed=run.config.seed,
        folder=run.config.output,
        device=run.device,
        identity=run.identity,
        place=place,
    )
    torch.manual_seed(run.config.seed + place.rank)
    resumed = trainer.resume()
    if not resumed and run.config.train.start_from:
        checkpoint.start_from(run.model, run.config.train.start_from)
    return trainer, resumed


def _fit(run: Run, place: Place, quiet: bool) -> Progress:
    trainer, resumed = trainer_of(run, place)
    with TrainingDisplay(trainer, run.config.output, quiet=quiet) as display:
        if resumed:
            display.say(f"Going on after epoch {trainer.progress.epoch}, step {trainer.progress.step}.")
        with tracked(run.config if place.rank == 0 else None, display.say) as track:
            trainer.fit(display.step, _both(display.epoch, track))
    return trainer.progress


def _both(show: OnEpoch, track: OnEpoch) -> OnEpoch:
    def on_epoch(line: dict[str, Any]) -> None:
        show(line)
        track(line)

    return on_epoch


def _report(run: Run, progress: Progress, place: Place) -> Report:
    wait_for_all(place)  # the first process writes the best weights
    tensors, _ = checkpoint.load(run.best)
    checkpoint.load_model(run.model, tensors, run.best)
    ranks: dict[Part, Int64] = {
        part: rank_targets(run.model, run.content, run.split, part, run.device, place) for part in PARTS
    }
    parameters = list(run.model.parameters())
    examples = len(Examples(run.split, run.model.examples))
    steps = progress.epoch * -(-examples // run.config.train.batch_size)
    report = Report(
        dataset=run.dataset.name,
        protocol={**asdict(run.split.protocol), "hash": run.split.protocol.hash},
        model=run.config.model.name,
        encoder=run.config.encoder.name if run.config.encoder else "none",
        **measure(run.split, ranks),
        cost={
            "parameters": sum(parameter.numel() for parameter in parameters),
            "trainable_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            "flops_per_step": progress.flops_per_step,
            "seconds_per_epoch": round(progress.train_seconds / progress.epoch, 3) if progress.epoch else 0.0,
            "seconds": round(progress.train_seconds, 6),
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            **run_cost(run.model.item_encoder, run.content, seconds=progress.train_seconds, steps=steps),
            "peak_memory_bytes": environment.peak_memory_bytes(run.device),
            "device": environment.device_name(run.device),
            "processes": place.world,
        },
        provenance={
            "commit": environment.commit(),
            "seed": run.config.seed,
            **run.identity,
            "packages": environment.packages(),
        },
    )
    if place.rank == 0:
        write_ranks(run.config.output, ranks, run.split)
        report.write(run.config.output)
    return report


def _check_same_run(run: Run) -> None:
    folder = run.config.output
    if not (folder / "config.toml").exists():
        return
    there = RunConfig.load(folder / "config.toml")
    way_out = "choose another output, or start again with --fresh"
    if there.hash != run.config.hash:
        raise InputError(
            f"{folder} holds a run of another configuration ({_difference(there, run.config)}); {way_out}."
        )
    last = folder / "checkpoints" / "last.safetensors"
    if last.exists() and checkpoint.load_facts(last).get("data_hash") != run.dataset.checksum:
        raise InputError(f"{folder} holds a run on other data than {run.config.dataset}; {way_out}.")


def _difference(there: RunConfig, here: RunConfig) -> str:
    old, new = (_flat(config.model_dump(mode="json", exclude=NOT_IN_HASH)) for config in (there, here))
    name = next(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
    return f"{name} was {old.get(name)!r}, now {new.get(name)!r}"


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _clear(folder: Path) -> None:
    for pattern in (
        "checkpoints/*.safetensors",
        "metrics.jsonl",
        "report.json",
        "ranks.npy",
        "config.toml",
        "tensorboard/*",
    ):
        for path in folder.glob(pattern):
            path.unlink()


def open_run(folder: Path) -> Run:
    """Build a trained run from its folder, with its best weights.

    Raises:
        InputError: the folder holds no trained run, or its data has changed or gone.
    """
    if not (folder / "config.toml").is_file():
        raise InputError(f"{folder} is not a run folder (no config.toml); make one with: microlens train CONFIG")
    run = build_run(RunConfig.load(folder / "config.toml", [f"output={json.dumps(str(folder))}"]))
    tensors, facts = checkpoint.load(run.best)
    if facts.get("data_hash") != run.dataset.checksum:
        raise InputError(f"{run.best} was trained on other data than {run.config.dataset} now holds.")
    checkpoint.load_model(run.model, tensors, run.best)
    run.model.eval()
    use_caches(run, quiet=False)
    return run


def evaluate(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Rank the validation and test targets of a trained run again: metrics, intervals and counts as in its report."""
    run = open_run(folder)
    ranks = {
        part: rank_targets(run.model, run.content, run.split, part, run.device, on_progress=on_progress)
        for part in PARTS
    }
    return measure(run.split, ranks)

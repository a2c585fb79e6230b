"""Training or resuming a run, ranking its targets, and writing its report."""

import json
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import nn

from microlens import environment
from microlens.config.run_config import NOT_IN_HASH, RunConfig
from microlens.config.toml_files import flattened
from microlens.cost import run_cost
from microlens.data.batches import Process
from microlens.data.examples import Examples
from microlens.data.interactions import Int64
from microlens.data.split import Part
from microlens.distributed import local_device, process_group, wait_for_all
from microlens.encoders.content import ContentEncoder
from microlens.environment import refuse_too_large_to_train
from microlens.errors import InputError, shown
from microlens.evaluation.ranking import rank_targets
from microlens.evaluation.report import PARTS, Report, measure, write_ranks
from microlens.files.run_manifest import (
    BEST,
    CONFIG,
    ENVIRONMENT,
    LAST,
    REPORT,
    check,
    check_checkpoint,
    replace_text,
    replaced,
)
from microlens.runs.assembly import (
    Experiment,
    build_experiment,
    check_revision,
    check_weights,
    errors_of_part,
    load_best,
    use_caches,
)
from microlens.runs.dataset_location import location_of
from microlens.runs.folder import clear_run_folder, held_run_folder
from microlens.runs.input_files import INPUTS, check_inputs, input_digests
from microlens.runs.tracking import OnEpoch, tracked
from microlens.runs.training_display import TrainingDisplay
from microlens.training import checkpoint
from microlens.training.trainer import Progress, Trainer

WAY_OUT = "choose another output, or start again with fresh=True."
_OF_TRAINING = (BEST, LAST, REPORT)


def train(config: RunConfig, *, fresh: bool = False, progress: bool = False) -> Report:
    """Train a run, or resume it, and write its report; the report of a finished run is only read.

    Args:
        config: configuration of the run.
        fresh: delete the files of an earlier run in the run folder and start again.
        progress: show a bar and one line per epoch, and write TensorBoard logs.

    Raises:
        InputError: ``config`` is no RunConfig or cannot be built; its output cannot be a run folder, or holds a run
            with another configuration or other data, or modified files; or numbers became NaN or infinite.
    """
    if not isinstance(config, RunConfig):
        raise InputError(
            f"config is {shown(config)}; it must be a RunConfig, such as RunConfig.load('run.toml') gives."
        )
    config.check_output()
    if config.parts:
        build_experiment(config, untrained_parts=True)  # so that no part is trained for a fusion that cannot be built
    with process_group(local_device(config.train.device)) as process:
        parts = []
        for number, part in enumerate(config.part_configs()):
            with errors_of_part(number, part):
                parts.append(train(part, fresh=fresh, progress=progress))
        wait_for_all(process)  # until rank 0 has written the reports of all parts
        run = build_experiment(config)  # before anything is written
        folder = config.output
        with held_run_folder(folder) if process.rank == 0 else nullcontext():
            if fresh and process.rank == 0:
                clear_run_folder(folder)
            wait_for_all(process)
            of_parts = sum(float(report.cost["seconds"]) for report in parts)
            return _train(run, process, progress and process.rank == 0, of_parts)


def _train(run: Experiment, process: Process, show: bool, of_parts: float) -> Report:
    config, folder = run.config, run.config.output
    _check_same_run(run)
    if (folder / REPORT).exists():
        report = Report.read(folder)
        if report.provenance.get("data_hash") != run.dataset.checksum:
            raise _other_data(run)
        return report
    if process.rank == 0:
        replace_text(folder, CONFIG, config.toml())
        facts = {
            **environment.describe(run.device),
            "dataset": location_of(config.dataset, folder),
            INPUTS: input_digests(config),
        }
        replace_text(folder, ENVIRONMENT, json.dumps(facts, indent=1) + "\n")
    use_caches(run, process, progress=show)
    progress = Progress()
    if run.model.fits_at_once:
        progress.train_seconds = of_parts + _fit_at_once(run, process)
    elif any(parameter.requires_grad for parameter in run.model.parameters()):
        progress = _fit(run, process, show)
    elif process.rank == 0:
        _save_untrained(run, {"epoch": 0, **run.identity})
    return _report(run, progress, process)


def _fit_at_once(run: Experiment, process: Process) -> float:
    """Fit a model without gradients and save it, unless already saved; returns the fitting time in seconds."""
    if process.rank:
        return 0.0
    check(run.config.output, BEST)
    facts = checkpoint.load_facts(run.best) if run.best.exists() else {}
    if any(facts.get(name) != value for name, value in run.identity.items()):
        torch.manual_seed(run.config.seed)
        started = time.monotonic()
        run.model.fit(run.split)
        facts = {"epoch": 0, "seconds": time.monotonic() - started, **run.identity}
        _save_untrained(run, facts)
    return checkpoint.checked(facts, _Fit, run.best).seconds


@dataclass(frozen=True)
class _Fit:
    """Metadata in the checkpoint of a model without gradients: the fitting time."""

    seconds: NonNegativeFloat


def _save_untrained(run: Experiment, facts: dict[str, Any]) -> None:
    """Save the weights of a model that was not trained step by step."""
    check_weights(run.model, run.best)
    with replaced(run.config.output, BEST) as path:
        checkpoint.save(path, checkpoint.with_prefix("model", run.model.state_dict()), facts)


def new_trainer(run: Experiment, process: Process | None = None) -> Trainer:
    """Build the trainer of a run at its first step.

    Raises:
        InputError: there are more processes than rows in a batch, or the memory is too small.
    """
    process = process or Process()
    if process.world_size > run.config.train.batch_size:
        raise InputError(
            f"train.batch_size is {run.config.train.batch_size}; {process.world_size} processes need at least as many."
        )
    refuse_too_large_to_train(run.model, run.device)
    trainer = Trainer(
        run.model,
        run.split,
        run.content,
        run.config.train,
        seed=run.config.seed,
        folder=run.config.output,
        device=run.device,
        identity=run.identity,
        process=process,
    )
    torch.manual_seed(run.config.seed + process.rank)
    return trainer


def trainer_of(run: Experiment, process: Process | None = None) -> tuple[Trainer, bool]:
    """Build the trainer of a run, resumed from its checkpoint or initialized from ``train.start_from``.

    Returns:
        The trainer, and True if it resumed.

    Raises:
        InputError: there are more processes than rows in a batch, a checkpoint was modified, or the weights of
            ``train.start_from`` do not fit.
    """
    trainer = new_trainer(run, process)
    resumed = trainer.resume()
    if not resumed:
        load_start(run)
    return trainer, resumed


def load_start(run: Experiment) -> None:
    """Load the weights that ``train.start_from`` names, if any, into the model of a run.

    Raises:
        InputError: they were modified, or do not fit.
    """
    start = run.config.train.start_from
    if start:
        check_checkpoint(start)
        checkpoint.start_from(run.model, start)
        check_weights(run.model, start)


def _fit(run: Experiment, process: Process, show: bool) -> Progress:
    trainer, resumed = trainer_of(run, process)
    with TrainingDisplay(trainer, run.config.output, progress=show) as display:
        if resumed:
            display.say(f"Resuming after epoch {trainer.progress.epoch}, step {trainer.progress.step}.")
        elif not run.config.train.start_from:
            for name in _random_and_frozen(run.model):
                display.say(f"{name}: frozen stages have random weights; the encoder's option weights loads others.")
        # A service that fails is said even where nothing else is shown.
        say = display.say if show else warnings.warn
        with tracked(run.config if process.rank == 0 else None, say) as track:
            trainer.fit(display.step, _both(display.epoch, track))
    return trainer.progress


def _random_and_frozen(model: nn.Module) -> list[str]:
    encoders = (module for module in model.modules() if isinstance(module, ContentEncoder))
    return sorted({type(encoder.trunk).__name__ for encoder in encoders if encoder.keeps_random_weights})


def _both(show: OnEpoch, track: OnEpoch) -> OnEpoch:
    def on_epoch(line: dict[str, Any]) -> None:
        show(line)
        track(line)

    return on_epoch


def _report(run: Experiment, progress: Progress, process: Process) -> Report:
    wait_for_all(process)  # until rank 0 has written the best weights
    load_best(run)
    ranks: dict[Part, Int64] = {
        part: rank_targets(run.model, run.content, run.split, part, run.device, process) for part in PARTS
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
            "processes": process.world_size,
        },
        provenance={
            "commit": environment.commit(),
            "seed": run.config.seed,
            **run.identity,
            "packages": environment.packages(),
        },
    )
    if process.rank == 0:
        write_ranks(run.config.output, ranks, run.split)
        report.write(run.config.output)
    return report


def _check_same_run(run: Experiment) -> None:
    folder = run.config.output
    check(folder, CONFIG)
    if not (folder / CONFIG).exists() or not any((folder / name).exists() for name in _OF_TRAINING):
        return  # nothing has been trained yet
    there = RunConfig.load(folder / CONFIG, of_run=True)
    if there.hash != run.config.hash:
        raise InputError(f"{folder} holds a run of another configuration ({_difference(there, run.config)}); {WAY_OUT}")
    check_inputs(folder, run.config)
    last = folder / LAST
    if last.exists():
        check(folder, LAST)
        facts = checkpoint.load_facts(last)
        if facts.get("data_hash") != run.dataset.checksum:
            raise _other_data(run)
        check_revision(run, facts)


def _other_data(run: Experiment) -> InputError:
    return InputError(f"{run.config.output} holds a run on other data than {run.config.dataset}; {WAY_OUT}")


def _difference(there: RunConfig, here: RunConfig) -> str:
    old, new = (flattened(config.model_dump(mode="json", exclude=NOT_IN_HASH)) for config in (there, here))
    name = next(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
    return f"{name} was {old.get(name)!r}, now {new.get(name)!r}"


def evaluate(run: Experiment, on_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Rank the validation and test targets of a trained run; returns metrics, intervals and counts as in its report.

    Args:
        run: trained run, see :func:`microlens.runs.assembly.open_experiment`.
        on_progress: called with (done, total) targets.

    Raises:
        InputError: a vector or a score is NaN or infinite.
    """
    ranks = {
        part: rank_targets(run.model, run.content, run.split, part, run.device, on_progress=on_progress)
        for part in PARTS
    }
    return measure(run.split, ranks)

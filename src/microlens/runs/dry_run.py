"""The cost of a run, told from a few steps before it is trained."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from microlens import environment
from microlens.config.run_config import RunConfig
from microlens.cost.counting import flop_counter
from microlens.data.batches import Batch
from microlens.evaluation.ranking import (
    CLIPS_AT_ONCE,
    USERS_AT_ONCE,
    encode_catalogue,
    known_before,
    rank_of_target,
    score_users,
)
from microlens.runs.assembly import Experiment, build_experiment, use_caches
from microlens.runs.train import load_start, new_trainer
from microlens.training.trainer import Trainer

STEPS = 20
SECONDS = 5.0  # of training steps; small steps are repeated, because their times vary
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """What a run will cost on this machine, on one process.

    ``peak_memory_bytes`` is that of the GPU, or on a CPU that of the whole process including Python and libraries.
    Validation ranks all targets after every epoch. A model that is fitted at once has neither steps nor epochs: their
    numbers are 0.
    """

    parameters: int
    trainable_parameters: int
    flops_per_step: int
    steps_per_epoch: int
    training_seconds: float
    validation_seconds: float
    most_epochs: int
    peak_memory_bytes: int
    device: str

    @property
    def seconds_per_epoch(self) -> float:
        """Seconds of an epoch, validation included."""
        return self.training_seconds + self.validation_seconds


def dry_run(config: RunConfig, clock: Clock = time.perf_counter) -> dict[str, RunCost]:
    """Measure a few training steps and a part of a validation, and extrapolate; nothing of the run is written.

    Outputs of frozen networks are cached in the dataset first, as the run would do it (``train.cache``).

    Args:
        config: configuration of the run.
        clock: the present time in seconds.

    Returns:
        The costs by the name of the run folder: those of the parts of a fusion, then that of the run itself.

    Raises:
        InputError: the configuration cannot be built, its output cannot be a run folder, or the weights of
            ``train.start_from`` do not fit.
    """
    config.check_output()
    costs = [cost for part in config.part_configs() for cost in dry_run(part, clock).items()]
    return dict([*costs, (config.output.name, _cost(config, clock))])


def _cost(config: RunConfig, clock: Clock) -> RunCost:
    run = build_experiment(config, untrained_parts=True)
    parameters = list(run.model.parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    steps, flops, training, validation = 0, 0, 0.0, 0.0
    if trainable and not run.model.fits_at_once:
        load_start(run)
        use_caches(run)
        trainer = new_trainer(run)  # an interrupted run of the folder is not resumed
        steps = trainer.steps_per_epoch
        flops, seconds_per_step = _time_steps(trainer, clock)
        training = steps * seconds_per_step
        validation = _time_validation(run, clock)
    return RunCost(
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=trainable,
        flops_per_step=flops,
        steps_per_epoch=steps,
        training_seconds=training,
        validation_seconds=validation,
        most_epochs=config.train.epochs if steps else 0,
        peak_memory_bytes=environment.peak_memory_bytes(run.device),
        device=environment.device_name(run.device),
    )


def _time_steps(trainer: Trainer, clock: Clock) -> tuple[int, float]:
    """The flops of a step, and its seconds with those of its batch, without the first steps, which allocate memory."""
    batches = _repeated(trainer)
    with flop_counter() as counter:
        trainer.step(next(batches))
    float(trainer.step(next(batches)))
    started, done = clock(), 0
    while done < STEPS or clock() - started < SECONDS:
        float(trainer.step(next(batches)))  # waits for a GPU, as training does
        done += 1
    return counter.get_total_flops(), (clock() - started) / done


def _repeated(trainer: Trainer) -> Iterator[Batch]:
    """The batches of the first epoch, again and again."""
    while True:
        yield from trainer.batches()


@torch.inference_mode()
def _time_validation(run: Experiment, clock: Clock) -> float:
    """The seconds of encoding all items and of ranking all validation targets, from those of some."""
    model, split, device = run.model.eval(), run.split, run.device
    N, users = split.num_items, split.target_users("valid")
    encoded = min(N, CLIPS_AT_ONCE * 2 if model.item_encoder.sees_content else N)
    started = clock()
    some = encode_catalogue(model, run.content, encoded, device)
    encoding = (clock() - started) * N / encoded
    catalogue = some[torch.arange(N + 1, device=device) % len(some)]
    asked = users[: 2 * USERS_AT_ONCE]
    targets = torch.from_numpy(split.targets("valid")[: len(asked)].astype(np.int64)).to(device)
    started = clock()
    for scored in score_users(model, catalogue, asked, known_before(split, "valid", asked)):
        rank_of_target(scored.scores, targets[scored.rows], scored.seen).cpu()
    return encoding + (clock() - started) * len(users) / len(asked)

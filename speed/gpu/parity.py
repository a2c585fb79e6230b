"""Comparison of GPU and CPU: losses, gradients, resumed runs, dropout of a second pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from microlens.config.sections import TrainSection
from microlens.data.batches import Batch, ItemBatch, train_batches
from microlens.data.split import Split
from microlens.encoders.precision import HALF, keep_convolutions_in_float32
from microlens.runs.train import trainer_of as trainer_of_run
from microlens.training.gradient_caching import encode_in_parts, equal_parts
from microlens.training.step import TrainingStep, negatives_of
from microlens.training.trainer import Trainer
from speed.gpu.bench import Bench, Case, Figures
from speed.gpu.ceilings import tf32
from speed.gpu.worlds import InMemory, made_clips, split_of, video_model
from speed.measure import Shape, made_run

CPU = torch.device("cpu")
SHAPE = Shape(users=300, items=150, interactions=2_158)
DIM, USERS, FRAMES, CLIPS, MICRO_BATCH = 64, 32, 5, 12, 4
TOLERANCES = {"fp32": (1e-4, 1e-4), "bf16": (1e-2, 0.5)}
"""Largest difference of the loss, relative, and of the whole gradient, by its norm.

bfloat16 keeps 8 bits, and deep networks with random weights amplify its rounding: on a CPU it moves their gradients by
0.1 to 0.3. A gradient beyond half its norm would be another one. In float32, the gradient of a network with ReLU jumps
where an input of one lies within rounding of 0; so it may also differ by twice what two ways of computing on the CPU,
with oneDNN and without, differ by.
"""
RESUME_TOLERANCE = 1e-6
STEPS = 6


def cases(bench: Bench) -> Iterator[Case]:
    """SASRec with two losses and some video networks, in both precisions; resuming; dropout under gradient caching."""
    split = split_of(SHAPE)
    for loss in ("in-batch-softmax", "full-softmax"):
        for precision in TOLERANCES:
            yield f"SASRec {loss} {precision}", lambda loss=loss, precision=precision: of_ids(bench, loss, precision)
    for name in bench.sizes.compared_networks:
        for precision in TOLERANCES:
            yield (
                f"{name} gradient caching {precision}",
                lambda name=name, precision=precision: of_videos(bench, split, name, precision),
            )
    yield "dropout in the second pass of gradient caching", lambda: dropout_again(bench, split)
    for loss in ("in-batch-softmax", "full-softmax"):
        yield f"resumed SASRec {loss}", lambda loss=loss: resumed(bench, loss)


def of_ids(bench: Bench, loss: str, precision: str) -> Figures:
    """SASRec on ids."""
    model = {"name": "sasrec", "dim": DIM, "dropout": 0.0}
    run = made_run(bench.folder / "parity", SHAPE, model=model, train={"batch_size": USERS, "loss": loss})
    negatives = negatives_of(run.config.train, run.split)
    batch = next(train_batches(run.split, run.content, batch_size=USERS, seed=0, epoch=0, negatives=negatives))
    step = TrainingStep(run.model, torch.from_numpy(run.split.train_counts), settings=run.config.train)
    return differences(bench, step, batch, precision)


def of_videos(bench: Bench, split: Split, name: str, precision: str) -> Figures:
    """SASRec over a fully tuned video network, BatchNorm by its running statistics, in parts of a few clips."""
    settings = TrainSection(micro_batch=MICRO_BATCH)
    shape = (FRAMES, bench.sizes.compared_pixels)
    model = video_model(split, {"name": name}, DIM, shape)
    batch = next(train_batches(split, InMemory(made_clips(CLIPS, *shape)), batch_size=3, seed=0, epoch=0))
    step = TrainingStep(model, torch.from_numpy(split.train_counts), settings=settings)
    return differences(bench, step, batch, precision)


def differences(bench: Bench, step: TrainingStep, batch: Batch, precision: str) -> Figures:
    """The loss and its gradient on the CPU in float32 beside those on the device.

    Raises:
        AssertionError: they differ by more than the tolerance.
    """
    with tf32(allowed=False):
        loss, gradient = loss_and_gradient(step, batch, CPU, "fp32")
        with without_onednn():
            _, another = loss_and_gradient(step, batch, CPU, "fp32")
        other_loss, other = loss_and_gradient(step, batch, bench.device, precision)
    of_loss = abs(other_loss - loss) / abs(loss)
    of_gradient, on_cpu = (float((value - gradient).norm() / gradient.norm()) for value in (other, another))
    figures = {
        "loss": loss,
        "loss_difference": of_loss,
        "gradient_difference": of_gradient,
        "gradient_difference_of_two_ways_on_the_cpu": on_cpu,
        "tolerances": TOLERANCES[precision],
    }
    within = of_loss <= TOLERANCES[precision][0] and of_gradient <= max(TOLERANCES[precision][1], 2 * on_cpu)
    assert within, f"beyond the tolerance: {figures}"
    return figures


@contextmanager
def without_onednn() -> Iterator[None]:
    """Compute with PyTorch's own kernels on the CPU, which add in another order than oneDNN's."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def loss_and_gradient(step: TrainingStep, batch: Batch, device: torch.device, precision: str) -> tuple[float, Tensor]:
    """The gradient of a step without dropout on ``device``: all parameters as one vector on the CPU."""
    step.to(device).eval().zero_grad()
    if device.type == "cpu" and precision in HALF:
        keep_convolutions_in_float32(step, HALF[precision])  # as in training
    with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
        loss = step(batch.to(device))
    loss.backward()
    gradients = [value.grad.detach().flatten().double().cpu() for value in step.parameters() if value.grad is not None]
    return loss.item(), torch.cat(gradients)


def dropout_again(bench: Bench, split: Split) -> Figures:
    """The gradient with gradient caching beside that with all activations kept, from the same random state.

    Raises:
        AssertionError: they differ, so that the second pass drew other dropout than the first.
    """
    shape = (FRAMES, bench.sizes.compared_pixels)
    model = video_model(split, {"name": bench.sizes.light_network}, DIM, shape)
    encoder = model.item_encoder
    encoder.projection = nn.Sequential(dropout := nn.Dropout(0.5), encoder.projection)
    model.to(bench.device).eval()
    dropout.train()
    items = ItemBatch(items=torch.arange(CLIPS), content={"clips": made_clips(CLIPS, *shape)})

    def cached() -> Tensor:
        return encode_in_parts(model, items, bench.device, micro_batch=MICRO_BATCH, norm_batch=MICRO_BATCH)

    def kept() -> Tensor:
        parts = equal_parts(CLIPS, MICRO_BATCH)
        return torch.cat([model.encode_items(items.at(slice(*part)).to(bench.device)) for part in parts])

    gradients = []
    for way in (kept, cached):
        model.zero_grad()
        torch.manual_seed(0)
        way().square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    difference = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    tolerance = TOLERANCES["fp32"][1]
    assert difference <= tolerance, f"the gradients differ by {difference}"
    return {"gradient_difference": difference, "tolerance": tolerance}


def resumed(bench: Bench, loss: str) -> Figures:
    """The weights of a run that was stopped and resumed beside those of one that was not, and of a second such one.

    Raises:
        AssertionError: the resumed run differs by more than the tolerance.
    """
    ways = {"undisturbed": 0, "again": 0, "resumed": STEPS // 2}
    weights = {name: weights_of(bench, loss, bench.folder / f"{loss}-{name}", stop) for name, stop in ways.items()}
    scale = float(weights["undisturbed"].abs().max())
    largest = {name: float((weights[name] - weights["undisturbed"]).abs().max()) / scale for name in ways}
    bound = max(RESUME_TOLERANCE, 10 * largest["again"])
    assert largest["resumed"] <= bound, f"the resumed run differs by {largest['resumed']}"
    return {
        "resumed_equals_undisturbed": largest["resumed"] == 0,
        "largest_difference": largest["resumed"],
        "largest_difference_of_two_undisturbed_runs": largest["again"],
        "tolerance": bound,
    }


def weights_of(bench: Bench, loss: str, folder: Path, stop: int) -> Tensor:
    """All weights after some steps with dropout, the run being saved and built again after ``stop`` of them."""
    folder.mkdir()
    trainer = fresh_trainer(bench, loss, folder)
    for number in range(STEPS):
        if stop and number == stop:
            trainer.save()
            trainer = fresh_trainer(bench, loss, folder)
            assert trainer.progress.step == stop, "the run was not resumed"
        batches = trainer.batches()
        trainer.step(next(batches))
        batches.close()
        trainer.progress.step += 1
    return torch.cat([value.detach().flatten().double().cpu() for value in trainer.model.parameters()])


def fresh_trainer(bench: Bench, loss: str, folder: Path) -> Trainer:
    """The trainer of a run in ``folder``, resumed where it was saved."""
    model: dict[str, Any] = {"name": "sasrec", "dim": DIM, "dropout": 0.1}
    train = {"batch_size": USERS, "loss": loss}
    run = made_run(bench.folder / "parity", SHAPE, model=model, train=train, device=bench.device.type, output=folder)
    return trainer_of_run(run)[0]

"""Encoders of frozen sequences of vectors against loops, and on items of which the telling vector is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.data.batches import ItemBatch
from microlens.encoders import build_encoder
from microlens.encoders.attention_pool import AttentionPoolEncoder
from microlens.encoders.base import ItemEncoder
from microlens.encoders.iisan import IISANEncoder
from microlens.encoders.layer_mix import LayerMixEncoder
from microlens.errors import InputError
from tests.reference.sequences_loop import attention_pool_loop, iisan_loop, layer_mix_loop

D, E, T = 8, 5, 4
IDS = 10 * np.arange(7)  # of items 0 (padding) to 6
BATCH = ItemBatch(items=torch.tensor([5, 1, 6, 2]))


def write(path: Path, vectors: npt.NDArray[Any]) -> str:
    """A file of the vectors (N, T, E) of items 1..N, in another order."""
    order = np.random.default_rng(1).permutation(len(vectors))
    np.save(path, vectors[order])
    np.save(path.with_suffix(".ids.npy"), 10 * (order + 1))
    return str(path)


@pytest.fixture
def vectors() -> npt.NDArray[np.float32]:
    """The vectors of six items; item 1 lacks its first, item 5 all but one, which are NaN."""
    drawn = np.random.default_rng(0).normal(size=(6, T, E)).astype(np.float32)
    drawn[0, 0] = drawn[4, [0, 1, 3]] = np.nan
    return drawn


def given(vectors: npt.NDArray[Any], item: int) -> list[Tensor | None]:
    return [None if np.isnan(vector).all() else torch.from_numpy(vector) for vector in vectors[item - 1]]


def disturbed(encoder: ItemEncoder) -> Any:
    """The encoder with parameters that all matter."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def check(encoder: ItemEncoder, expected: Callable[[int], Tensor]) -> None:
    """The vectors of a batch are those of the loop."""
    with torch.inference_mode():
        found = encoder(BATCH)
        for row, item in zip(found, BATCH.items.tolist(), strict=True):
            torch.testing.assert_close(row, expected(item), rtol=1e-4, atol=1e-5)


def test_layers_are_mixed_by_a_softmax_over_those_that_exist(tmp_path: Path, vectors: Any) -> None:
    encoder = LayerMixEncoder(path=write(tmp_path / "x.npy", vectors), dim=D, item_ids=IDS)
    check(disturbed(encoder), lambda item: layer_mix_loop(encoder, given(vectors, item)))


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_that_of_the_set_transformer(tmp_path: Path, vectors: Any, heads: int) -> None:
    encoder = AttentionPoolEncoder(path=write(tmp_path / "x.npy", vectors), dim=D, item_ids=IDS, heads=heads)
    check(disturbed(encoder), lambda item: attention_pool_loop(encoder, heads, given(vectors, item)))


@pytest.mark.parametrize(
    ("shapes", "every", "used"),
    [
        ([(7, 5)], 2, [[0, 2, 4, 6]]),
        ([(4, 5), (4, 5)], 2, [[1, 3], [1, 3]]),
        ([(6, 7), (3, 5)], 1, [[0, 1, 2, 3, 4, 5], [0, 1, 2]]),
        ([(3, 5), (7, 6)], 2, [[0, 2], [0, 2, 4, 6]]),
    ],
    ids=["one encoder", "two alike", "the first deeper and wider", "the second deeper and wider"],
)
def test_side_networks_are_those_of_iisan(
    tmp_path: Path, shapes: list[tuple[int, int]], every: int, used: list[list[int]]
) -> None:
    rng = np.random.default_rng(2)
    files = [rng.normal(size=(6, *shape)).astype(np.float32) for shape in shapes]
    paths = [write(tmp_path / f"{number}.npy", values) for number, values in enumerate(files)]
    encoder = IISANEncoder(paths=paths, dim=D, item_ids=IDS, every=every, bottleneck=3)
    for gates in (encoder.intra[0].gates, *([encoder.inter.gates] if encoder.inter else [])):
        assert not gates.any()  # open half way at first

    def expected(item: int) -> Tensor:
        layers = [
            [torch.from_numpy(values[item - 1, layer]) for layer in layers]
            for values, layers in zip(files, used, strict=True)
        ]
        return iisan_loop(encoder, layers)

    check(disturbed(encoder), expected)


def learned(encoder: ItemEncoder, classes: Tensor) -> float:
    """The share of unseen items whose class a linear layer tells, after training on the others."""
    torch.manual_seed(0)
    head = nn.Linear(D, int(classes.max()) + 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.03)
    items, half = torch.arange(1, len(classes) + 1), len(classes) // 2
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(head(encoder(ItemBatch(items=items[:half]))), classes[:half]).backward()
        optimizer.step()
    found = head(encoder.eval()(ItemBatch(items=items[half:]))).argmax(1)
    return float((found == classes[half:]).float().mean())


def one_hot(classes: npt.NDArray[Any], width: int) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = np.eye(width, dtype=np.float32)[classes]
    return rows


N = 400


def test_the_telling_layer_gets_the_weight(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    classes = rng.integers(0, E, N)
    layers = rng.normal(size=(N, T, E)).astype(np.float16)
    layers[:, 2] = one_hot(classes, E)
    encoder = LayerMixEncoder(path=write(tmp_path / "x.npy", layers), dim=D, item_ids=10 * np.arange(N + 1))
    assert learned(encoder, torch.from_numpy(classes)) > 0.9
    weights = encoder.weights.softmax(0)
    assert weights.argmax() == 2
    assert weights[2] > 0.6


def test_the_marked_frame_gets_the_attention_wherever_it_is(tmp_path: Path) -> None:
    """Four frames show the four classes, one of them with a mark: the mean over frames tells nothing of the class."""
    rng = np.random.default_rng(4)
    order = rng.permuted(np.tile(np.arange(T), (N, 1)), axis=1)
    marked = rng.integers(0, T, N)
    frames = np.concatenate([one_hot(order, T), one_hot(marked, T)[:, :, None]], axis=2)
    classes = order[np.arange(N), marked]
    encoder = AttentionPoolEncoder(path=write(tmp_path / "x.npy", frames), dim=D, item_ids=10 * np.arange(N + 1))
    assert learned(encoder, torch.from_numpy(classes)) > 0.95


def test_what_two_encoders_know_together_is_found(tmp_path: Path) -> None:
    """The class is known half by an early layer of one encoder, and half by a late one of the other."""
    rng = np.random.default_rng(5)
    halves = rng.integers(0, 2, (2, N))
    paths = []
    for number, (layer, half) in enumerate(zip((1, 3), halves, strict=True)):
        layers = 0.1 * rng.normal(size=(N, T, E))
        layers[:, layer, :2] += one_hot(half, 2)
        paths.append(write(tmp_path / f"{number}.npy", layers))
    encoder = IISANEncoder(paths=paths, dim=D, item_ids=10 * np.arange(N + 1), every=2, bottleneck=4)
    assert learned(encoder, torch.from_numpy(2 * halves[0] + halves[1])) > 0.95


def refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder(table, {"dim": D, "item_ids": IDS})


def test_files_and_options_that_do_not_suit_are_refused(tmp_path: Path, vectors: Any) -> None:
    path, flat = write(tmp_path / "x.npy", vectors), write(tmp_path / "flat.npy", vectors[:, 1])
    whole = write(tmp_path / "whole.npy", np.nan_to_num(vectors))
    refused(
        {"name": "layer_mix", "path": flat}, r"flat.npy has shape \(6, 5\): one vector per item; the encoder features"
    )
    refused({"name": "features", "path": path}, r"x.npy has shape \(6, 4, 5\): several vectors per item; .*layer_mix")
    refused({"name": "attention_pool", "path": path, "heads": 3}, "heads = 3 does not divide dim = 8")
    refused({"name": "iisan", "paths": []}, "encoder.paths has 0 files; iisan takes those of one or two")
    refused({"name": "iisan", "paths": [whole] * 3}, "encoder.paths has 3 files")
    refused({"name": "iisan", "paths": [path]}, "x.npy: an item lacks the vector of a layer, which iisan needs")
    refused({"name": "iisan", "paths": [whole], "every": 0}, "every = 0 and bottleneck = 64; both must be at least 1")

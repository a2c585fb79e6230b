"""What every item tower must do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders import CONTENT_ENCODERS, ENCODERS, build_encoder
from microlens.encoders.base import ItemEncoder
from microlens.encoders.fusion import FUSIONS
from microlens.encoders.video.x3d import X3D_NETWORKS
from microlens.errors import InputError

N, D, SIZE = 9, 8, 32
CHEAP_VIDEO = "x3d_xs"  # the other encoders of content have a contract of their own, in test_tuning.py


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    np.save(folder / "f.npy", rng.normal(size=(N + 2, 6)).astype(np.float32))
    np.save(folder / "f.ids.npy", rng.permutation(np.append(np.arange(1, N + 1) * 10, [7, 8])))
    return folder / "f.npy"


def tables(features: Path) -> dict[str, dict[str, Any]]:
    by_name: dict[str, dict[str, Any]] = {
        "id": {"name": "id"},
        "features": {"name": "features", "path": str(features)},
        "popularity_bins": {"name": "popularity_bins"},
        "tag": {"name": "tag"},
        CHEAP_VIDEO: {"name": CHEAP_VIDEO},
    }
    towers = [{"name": "id"}, {"name": "features", "path": str(features)}, {"name": "id"}]
    by_name |= {name: {"name": name, "towers": towers} for name in FUSIONS}
    assert by_name.keys() >= ENCODERS.keys() - CONTENT_ENCODERS.keys()
    return by_name


WORLD: dict[str, Any] = {
    "dim": D,
    "num_items": N,
    "item_ids": np.append(0, np.arange(1, N + 1) * 10),
    "train_counts": torch.arange(N + 1),
    "tags": [*"hgfedcba", ""],
}


@pytest.fixture(params=["id", "features", "popularity_bins", "tag", *FUSIONS, CHEAP_VIDEO])
def encoder(request: pytest.FixtureRequest, features: Path) -> ItemEncoder:
    torch.manual_seed(2)
    return build_encoder(tables(features)[request.param], WORLD).eval()


def items(*numbers: int) -> ItemBatch:
    clips = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (N + 1, 2, SIZE, SIZE, 3), dtype=np.uint8))
    return ItemBatch(items=torch.tensor(numbers), content={"clips": clips[list(numbers)]})


def encode(encoder: ItemEncoder, batch: ItemBatch) -> Tensor:
    vectors: Tensor = encoder(batch)
    return vectors


def test_shape(encoder: ItemEncoder) -> None:
    assert encode(encoder, items(1, 5, 9)).shape == (3, D)


def test_a_row_depends_on_its_item_alone(encoder: ItemEncoder) -> None:
    together, alone = encode(encoder, items(4, 2, 9)), encode(encoder, items(2))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_eval_mode_is_repeatable(encoder: ItemEncoder) -> None:
    torch.testing.assert_close(encode(encoder, items(1, 2)), encode(encoder, items(1, 2)), rtol=0, atol=0)


def test_gradients_reach_every_parameter(encoder: ItemEncoder) -> None:
    with torch.no_grad():  # a residual network starts with silent branches
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder.train()
    # A loss that is not a sum: a BatchNorm would return no gradient for a constant one.
    (encode(encoder, items(*range(1, N + 1))) * torch.randn(N, D)).sum().backward()
    silent = [
        name for name, parameter in encoder.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert silent == []


def test_content_parameters_are_its_own(encoder: ItemEncoder) -> None:
    own = {id(parameter) for parameter in encoder.parameters()}
    seeing = {id(parameter) for group in encoder.content_groups() for parameter in group.parameters}
    assert seeing <= own
    assert bool(seeing) == bool(encoder.needs)


def test_a_state_dict_brings_everything_back(
    encoder: ItemEncoder, request: pytest.FixtureRequest, features: Path
) -> None:
    torch.manual_seed(3)
    other = build_encoder(tables(features)[request.node.callspec.params["encoder"]], WORLD).eval()
    assert not torch.allclose(encode(other, items(1, 2)), encode(encoder, items(1, 2)))
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encode(other, items(1, 2)), encode(encoder, items(1, 2)), rtol=0, atol=0)


def test_features_are_matched_by_id(features: Path) -> None:
    encoder = build_encoder({"name": "features", "path": str(features)}, WORLD)
    matrix, ids = np.load(features), np.load(features.with_suffix(".ids.npy"))
    for number in range(1, N + 1):
        row = matrix[ids.tolist().index(number * 10)]
        np.testing.assert_array_equal(encoder.features[number - 1].numpy(), row)  # type: ignore[operator, index]


def test_who_reads_the_item_number_says_so(encoder: ItemEncoder) -> None:
    """What is not for known items only gives a vector of the content alone, whatever the number."""
    batch = items(1, 2)
    renumbered = ItemBatch(items=torch.tensor([3, 4]), content=batch.content)
    same = torch.allclose(encode(encoder, batch), encode(encoder, renumbered))
    assert same is not encoder.known_items_only


def test_a_sum_is_a_sum(features: Path) -> None:
    encoder = build_encoder(tables(features)["sum"], WORLD)
    parts = [encode(tower, items(1, 2)) for tower in encoder.parts]  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(encode(encoder, items(1, 2)), parts[0] + parts[1] + parts[2])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "idd"}, r"encoder.name is 'idd', which is unknown; did you mean 'id'\?"),
        ({"name": "x3d_sx"}, "did you mean 'x3d_"),
        ({}, "encoder.name is None, which is unknown"),
        ({"name": "id", "size": 3}, "encoder.size is unknown; accepted: dropout"),
        ({"name": "features"}, "encoder.path is missing"),
        ({"name": "features", "path": 3}, "encoder.path is 3: input should be a valid string"),
        ({"name": "features", "path": "nowhere.npy"}, "nowhere.npy does not exist"),
        ({"name": "sum", "towers": [{"name": "id"}]}, "at least two"),
        ({"name": "sum", "towers": [{"name": "id"}, {"name": "ip"}]}, r"encoder.towers\[1\].name is 'ip'"),
        ({"name": "x3d_xs", "weights": "nowhere.pyth"}, "nowhere.pyth does not exist"),
    ],
)
def test_a_wrong_table_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder(table, WORLD)


def damaged(features: Path, folder: Path, case: str) -> Path:
    matrix, ids = np.load(features), np.load(features.with_suffix(".ids.npy"))
    if case == "NaN":
        matrix[ids == 30] = np.nan
    elif case == "twice":
        ids[ids == 8] = 30
    elif case == "no row":
        ids[ids == 30] = 31
    elif case == "rows but":
        ids = ids[:-1]
    elif case == "dimension":
        matrix = matrix[0]
    np.save(folder / "f.npy", matrix)
    np.save(folder / "f.ids.npy", ids)
    return folder / "f.npy"


@pytest.mark.parametrize("case", ["NaN", "twice", "no row", "rows but", "dimension"])
def test_damaged_features_are_refused(features: Path, tmp_path: Path, case: str) -> None:
    with pytest.raises(InputError, match=case):
        build_encoder({"name": "features", "path": str(damaged(features, tmp_path, case))}, WORLD)


def test_weights_are_loaded_strictly_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "w.pyth"
    state = X3D_NETWORKS["x3d_xs"].build().state_dict()
    torch.save({"model_state": state}, path)
    loaded = build_encoder({"name": "x3d_xs", "weights": str(path)}, WORLD).trunk.state_dict()  # type: ignore[union-attr, operator]
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())
    assert state.keys() - loaded.keys() == {"blocks.5.proj.weight", "blocks.5.proj.bias"}
    name, value = next(iter(state.items()))
    for change, message in (
        ({"stranger": value}, "'stranger' has no place"),
        ({name: value[:1]}, f"'{name}' has shape"),
    ):
        torch.save(state | change, path)
        with pytest.raises(InputError, match=message):
            build_encoder({"name": "x3d_xs", "weights": str(path)}, WORLD)
    torch.save({key: tensor for key, tensor in state.items() if key != name}, path)
    with pytest.raises(InputError, match=f"'{name}' is missing"):
        build_encoder({"name": "x3d_xs", "weights": str(path)}, WORLD)
    torch.save({"model_state": Path("code")}, path)
    with pytest.raises(InputError, match="without running code"):
        build_encoder({"name": "x3d_xs", "weights": str(path)}, WORLD)

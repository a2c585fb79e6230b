"""Encoders of the package keep the contract that the package ships, and tables of encoders are checked."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.encoders import CONTENT_ENCODERS, ENCODERS, build_encoder
from microlens.encoders.fusion import FUSIONS
from microlens.encoders.video.x3d import X3D_NETWORKS
from microlens.errors import InputError
from microlens.testing import EncoderContract
from microlens.testing.worlds import N, constructor_arguments, items_with_content, small_split

CHEAP_VIDEO, CHEAP_SOUND = (
    "x3d_xs",
    "sound_cnn",
)  # the other encoders of content have a contract of their own, in test_tuning.py


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    np.save(folder / "f.npy", rng.normal(size=(N + 2, 6)).astype(np.float32))
    np.save(folder / "f.ids.npy", rng.permutation(np.append(np.arange(1, N + 1) * 10, [7, 8])))
    for name in ("frames", "layers"):
        np.save(folder / f"{name}.npy", rng.normal(size=(N + 2, 3, 6)).astype(np.float16))
        shutil.copy(folder / "f.ids.npy", folder / f"{name}.ids.npy")
    return folder / "f.npy"


def tables(features: Path) -> dict[str, dict[str, Any]]:
    frames, layers = (str(features.with_name(f"{name}.npy")) for name in ("frames", "layers"))
    by_name: dict[str, dict[str, Any]] = {
        "id": {"name": "id"},
        "features": {"name": "features", "path": str(features)},
        "layer_mix": {"name": "layer_mix", "path": layers},
        "attention_pool": {"name": "attention_pool", "path": frames},
        "iisan": {"name": "iisan", "paths": [layers, frames]},
        "popularity_bins": {"name": "popularity_bins"},
        "tag": {"name": "tag"},
        "words": {"name": "words"},
        CHEAP_VIDEO: {"name": CHEAP_VIDEO},
        CHEAP_SOUND: {"name": CHEAP_SOUND},
    }
    towers = [{"name": "id"}, {"name": "features", "path": str(features)}, {"name": "id"}]
    by_name |= {name: {"name": name, "towers": towers} for name in FUSIONS}
    assert by_name.keys() >= ENCODERS.keys() - CONTENT_ENCODERS.keys()
    return by_name


WORLD: dict[str, Any] = {**constructor_arguments(small_split())}


class TestEveryEncoder(EncoderContract):
    @pytest.fixture(
        params=[*sorted(ENCODERS.keys() - CONTENT_ENCODERS.keys()), CHEAP_VIDEO, CHEAP_SOUND],
    )
    def encoder_table(self, request: pytest.FixtureRequest, features: Path) -> dict[str, Any]:
        return tables(features)[request.param]


def test_features_are_matched_by_id(features: Path) -> None:
    encoder = build_encoder({"name": "features", "path": str(features)}, WORLD)
    matrix, ids = np.load(features), np.load(features.with_suffix(".ids.npy"))
    for number in range(1, N + 1):
        row = matrix[ids.tolist().index(number * 10)]
        np.testing.assert_array_equal(encoder.features[number - 1].numpy(), row)  # type: ignore[operator, index]


def test_a_sum_is_a_sum(features: Path) -> None:
    encoder = build_encoder(tables(features)["sum"], WORLD)
    batch = items_with_content(1, 2)
    parts = [tower(batch) for tower in encoder.towers()]
    torch.testing.assert_close(encoder(batch), parts[0] + parts[1] + parts[2])


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

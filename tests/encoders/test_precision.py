"""Half precision on the CPU: gradients are right to a rounding on every processor, and what it slows down is said."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from microlens.config.run_config import RunConfig
from microlens.encoders import precision
from microlens.encoders.precision import HALF, keep_convolutions_in_float32, warn_where_half_precision_is_slow
from microlens.encoders.video.depthwise import DepthwiseConv3d
from microlens.runs.assembly import build_experiment
from microlens.training.trainer import Trainer

PICTURES = 64  # a sum of as many numbers, rounded to half precision after each, is off by several roundings


class Attention(nn.Module):
    """Logits of two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(PICTURES, 2, 5, 8))

    def forward(self, queries: Tensor) -> Tensor:
        return queries @ self.keys[: len(queries)].transpose(2, 3)


def convolution(dims: int, kernel: int | tuple[int, ...], **settings: int) -> nn.Module:
    padding = kernel // 2 if isinstance(kernel, int) else tuple(size // 2 for size in kernel)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    return kind(16, 16, kernel, padding=padding, **settings)


SEQUENCES, PICTURE_SHAPE, CLIPS = (16, 9), (16, 6, 6), (16, 2, 8, 8)
LAYERS = {
    "1d": (lambda: convolution(1, 3), SEQUENCES),
    "1d dilated": (lambda: convolution(1, 3, dilation=2), SEQUENCES),
    "2d 1": (lambda: convolution(2, 1), PICTURE_SHAPE),
    "2d 3": (lambda: convolution(2, 3), PICTURE_SHAPE),
    "2d strided": (lambda: convolution(2, 3, stride=2), PICTURE_SHAPE),
    "2d depthwise": (lambda: convolution(2, 3, groups=16), PICTURE_SHAPE),
    "2d patches": (lambda: nn.Conv2d(16, 8, 3, stride=3), PICTURE_SHAPE),
    "3d 1,1,1": (lambda: convolution(3, 1), CLIPS),
    "3d 1,3,3": (lambda: convolution(3, (1, 3, 3)), CLIPS),
    "3d 3,1,1": (lambda: convolution(3, (3, 1, 1)), CLIPS),
    "3d 3,3,3": (lambda: convolution(3, 3), CLIPS),
    "3d tubes": (lambda: nn.Conv3d(16, 8, 2, stride=2), CLIPS),
    "3d depthwise": (lambda: DepthwiseConv3d(16, (3, 3, 3)), CLIPS),
    "3d depthwise strided": (lambda: DepthwiseConv3d(16, (3, 3, 3), spatial_stride=2), CLIPS),
    "linear": (lambda: nn.Linear(8, 8), (6, 8)),
    "attention": (Attention, (2, 6, 8)),
}


def gradients_of(layer: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    layer(x).backward(grad)
    return {"x": x.grad.double()} | {name: value.grad.double() for name, value in layer.named_parameters()}


@pytest.mark.parametrize("half", HALF.values(), ids=HALF)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_on_the_cpu_are_those_of_float64_but_for_one_rounding(name: str, half: torch.dtype) -> None:
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(PICTURES, *shape).to(half).float()
    for parameter in layer.parameters():
        parameter.data = parameter.to(half).float()  # what half precision can hold, so that only results are rounded
    grad = torch.randn_like(layer(x)).to(half).float()
    reference = copy.deepcopy(layer).double()
    expected = gradients_of(reference, x.double(), grad.double())
    sizes = copy.deepcopy(reference)
    for parameter in sizes.parameters():
        parameter.data.abs_()
    of_products = gradients_of(sizes, x.double().abs(), grad.double().abs())

    keep_convolutions_in_float32(layer, half)
    with torch.autocast("cpu", half):
        output = layer(leaf := x.clone().requires_grad_())
    output.backward(grad.to(output.dtype))
    computed = {"x": leaf.grad, **{name: value.grad for name, value in layer.named_parameters()}}
    rounding, terms = torch.finfo(half).eps / 2, grad.numel()  # no gradient here sums up more products than this
    for parameter, gradient in computed.items():
        assert gradient is not None
        bound = rounding * expected[parameter].abs() + min(terms * 2**-24, 1e-3 * rounding) * of_products[parameter]
        assert ((gradient.double() - expected[parameter]).abs() <= bound + torch.finfo(half).smallest_normal).all()


def test_only_what_half_precision_would_break_is_kept_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def output_types(*, rounds: bool) -> dict[str, torch.dtype]:
        monkeypatch.setattr(precision, "_rounds_every_picture", lambda half: rounds)
        types = {}
        for name, (make, shape) in LAYERS.items():
            keep_convolutions_in_float32(layer := make(), torch.bfloat16)
            keep_convolutions_in_float32(layer, torch.bfloat16)  # a second trainer of the same model
            with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
                types[name] = layer(torch.randn(2, *shape)).dtype
        return types

    over_time = {name for name in LAYERS if name.startswith("3d") and ",".join(name.split()[1:])[:2] != "1,"}
    matrices = {"linear", "attention"}
    assert output_types(rounds=False) == {
        name: torch.float32 if name in over_time else torch.bfloat16 for name in LAYERS
    }
    assert output_types(rounds=True) == {name: torch.bfloat16 if name in matrices else torch.float32 for name in LAYERS}


def test_a_layer_kept_in_float32_is_the_same_layer() -> None:
    network = nn.Sequential(nn.Conv3d(2, 3, 3), DepthwiseConv3d(3, (3, 3, 3)))
    names = list(network.state_dict())
    keep_convolutions_in_float32(network, torch.bfloat16)
    assert list(network.state_dict()) == names
    assert isinstance(network[0], nn.Conv3d)
    assert isinstance(network[1], DepthwiseConv3d)
    other = copy.deepcopy(network)
    other[0].weight.data.zero_()
    x = torch.randn(1, 2, 3, 4, 4)
    assert not other[0](x).equal(network[0](x))
    assert network.to("meta")(x.to("meta")).shape == (1, 3, 1, 2, 2)


IN_BF16 = 'train.precision = "bf16" is slow on this processor: '
AS_LONG = 'as long in bfloat16 as in float32. Set train.precision = "fp32".'


@pytest.mark.parametrize(
    ("precision_set", "encoder", "product", "convolution", "said"),
    [
        ("bf16", "id", 30.0, 30.0, f"{IN_BF16}a matrix product takes 30 times {AS_LONG}"),
        ("bf16", "sound_cnn", 147.3, 4.44, f"{IN_BF16}a matrix product takes 147 times and a convolution takes 4.4 "
         f"times {AS_LONG}"),
        ("bf16", "sound_cnn", 0.3, 4.0, f"{IN_BF16}a convolution takes 4 times {AS_LONG}"),
        ("fp16", "id", 30.0, 1.0, 'train.precision = "fp16" is slow on this processor: a matrix product takes 30 times '
         'as long in float16 as in float32. Set train.precision = "fp32".'),
        ("bf16", "id", 0.5, 30.0, None),
        ("fp32", "sound_cnn", 30.0, 30.0, None),
    ],
)  # fmt: skip
def test_half_precision_is_warned_of_where_it_is_slower(
    precision_set: str, encoder: str, product: float, convolution: float, said: str | None, video_dataset: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def measured(half: torch.dtype, *, convolution: bool = False, times: float = convolution) -> float:
        return times if convolution else product

    monkeypatch.setattr(precision, "times_slower", measured)
    monkeypatch.setattr(precision, "_rounds_every_picture", lambda half: False)
    config = RunConfig.model_validate(
        {
            "dataset": video_dataset,
            "output": tmp_path,
            "model": {"name": "sasrec", "dim": 8},
            "encoder": {"name": encoder},
            "train": {"device": "cpu", "precision": precision_set},
        }
    )
    run = build_experiment(config)
    with caplog.at_level(logging.WARNING, logger="microlens"):
        Trainer(
            run.model, run.split, run.content, config.train, seed=1, folder=tmp_path, device=run.device, identity={}
        )
    assert [record.getMessage() for record in caplog.records] == ([said] if said else [])


def test_convolutions_that_stay_in_float32_are_not_held_against_half_precision(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "times_slower", lambda half, convolution=False: 30.0 if convolution else 0.5)
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Linear(3, 3))
    keep_convolutions_in_float32(network, torch.bfloat16)
    warn_where_half_precision_is_slow("x", torch.bfloat16, network)
    assert not caplog.records
    warn_where_half_precision_is_slow("x", torch.bfloat16, nn.Conv2d(2, 3, 3))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("convolution", [False, True])
def test_what_is_slow_is_found_by_a_race(convolution: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < precision.times_slower(torch.bfloat16, convolution=convolution) < float("inf")
    clock = iter([0.0, 9.0, 9.0, 10.0, 10.0, 13.0, 20.0, 21.0, 100.0, 160.0, 200.0, 205.0, 300.0, 305.0, 400.0, 405.0])
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    assert precision.times_slower.__wrapped__(torch.bfloat16, convolution=convolution) == 5.0

"""Dropout with masks from few random numbers, beside what it promises."""

import math

import pytest
import torch
from torch import nn

from microlens.recommenders.dropout import Dropout


def dropped(rate: float, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(0)
    return Dropout(rate)(torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_stays(rate: float) -> None:
    number = 400_000
    found = dropped(rate, number // 50, 50)
    zeros = int((found == 0).sum())
    assert abs(zeros - rate * number) < 4 * math.sqrt(number * rate * (1 - rate))
    (kept,) = found[found > 0].unique()
    assert kept.item() == pytest.approx(1 / (1 - rate), rel=3e-4)


@pytest.mark.parametrize("rate", [1e-9, 1e-6, 7e-6])
def test_a_rate_that_is_rounded_to_zero_drops_nothing(rate: float) -> None:
    assert torch.equal(dropped(rate, 100, 7), torch.ones(100, 7))


@pytest.mark.parametrize("rate", [1 - 1e-9, 1 - 1e-5])
def test_a_rate_near_one_keeps_the_mean(rate: float) -> None:
    found = dropped(rate, 4_000_000)
    assert found.unique().tolist() == [0.0, 2.0**16]
    assert found.mean().item() == pytest.approx(1, abs=4 * math.sqrt(2**16 / 4_000_000))


def test_neighbours_and_numbers_that_share_a_draw_are_independent() -> None:
    zeros = (dropped(0.3, 400_000) == 0).double()
    for shift in (1, 2, 3, 4, 8, 64):
        both = (zeros[shift:] * zeros[:-shift]).mean().item()
        assert both == pytest.approx(0.09, abs=4 * math.sqrt(0.09 * 0.91 / 400_000))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 4), (0, 4)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert dropped(0.5, *shape).shape == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    assert dropped(0.5, 40, dtype=dtype).dtype == dtype


def test_the_gradient_is_zero_where_the_output_is() -> None:
    values = torch.randn(1000, requires_grad=True)
    out = Dropout(0.4)(values)
    out.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad * values.detach(), out.detach())


def test_seeds_repeat_and_calls_differ() -> None:
    layer, values = Dropout(0.5), torch.ones(256)
    torch.manual_seed(1)
    first, second = layer(values), layer(values)
    torch.manual_seed(1)
    assert layer(values).equal(first)
    assert not second.equal(first)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_are_those_of_pytorch(rate: float) -> None:
    assert dropped(rate, 9).equal(nn.Dropout(rate)(torch.ones(9)))


def test_nothing_is_dropped_in_evaluation() -> None:
    values = torch.randn(9)
    assert Dropout(0.5).eval()(values) is values


def test_a_rate_near_one_keeps_something_finite() -> None:
    assert dropped(1 - 1e-9, 1000).isfinite().all()

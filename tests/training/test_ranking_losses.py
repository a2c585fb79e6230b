"""The losses over drawn items and over the whole catalogue against their loop twins."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from microlens.cost.counting import flop_counter
from microlens.training import full_softmax as module
from microlens.training.full_softmax import full_softmax
from microlens.training.losses import REJECTED, bce, bpr, gbce, sampled_softmax
from tests.reference.loss_loop import bce_loop, bpr_loop, full_softmax_loop, gbce_loop, sampled_softmax_loop

Loss = Callable[..., Tensor]
Q, K, N, D = 9, 6, 23, 4


def drawn_scores(seed: int) -> tuple[Tensor, Tensor]:
    """The scores of Q targets and of K items drawn for each, in float64, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    positive, negatives = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in [(Q,), (Q, K)])
    return positive.mul_(3).requires_grad_(), negatives.mul_(3).requires_grad_()


def drawing(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """How likely the targets and the K items are to be drawn, in float64, and which of these are rejected."""
    generator = torch.Generator().manual_seed(seed)
    likely = torch.rand(Q + K, generator=generator, dtype=torch.float64) + 0.01
    rejected = torch.rand(Q, K, generator=generator) < 0.4
    rejected[0], rejected[1] = True, False
    return likely[:Q].log(), likely[Q:].log(), rejected


def catalogue(seed: int, D: int = D) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, items, targets (with repeats) and what their users own (with repeats, padding, first and last item)."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(Q, D, generator=generator, dtype=torch.float64).requires_grad_()
    items = torch.randn(N, D, generator=generator, dtype=torch.float64).requires_grad_()
    positive = torch.randint(N, (Q,), generator=generator)
    positive[:4] = torch.tensor([0, N - 1, 5, 5])
    rejected = torch.randint(N + 1, (Q, 7), generator=generator)
    rejected[:, 0] = positive  # the user's own items include the target
    rejected[2] = N
    rejected[3] = torch.tensor([0, 0, N - 1, N, N, 1, 2])
    return states, items, positive, rejected


def assert_same(ours: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    """Loss and gradients are equal, each target weighted by a factor of its own where there is one loss a target."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    weights = torch.arange(1, 1 + ours.numel(), dtype=ours.dtype).reshape(ours.shape)
    pairs = zip(torch.autograd.grad(ours, inputs, weights), torch.autograd.grad(expected, inputs, weights), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_sampled_softmax_is_its_loop(seed: int) -> None:
    positive, negatives = drawn_scores(seed)
    arguments = (positive, negatives, *drawing(seed))
    assert_same(sampled_softmax(*arguments), sampled_softmax_loop(*arguments), [positive, negatives])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("loss", "loop", "options"),
    [
        (bpr, bpr_loop, ()),
        (bce, bce_loop, ()),
        (gbce, gbce_loop, (N, 0.0)),
        (gbce, gbce_loop, (N, 0.75)),
        (gbce, gbce_loop, (N, 1.0)),
    ],
)
def test_losses_of_drawn_items_are_their_loops(loss: Loss, loop: Loss, options: tuple[float, ...], seed: int) -> None:
    positive, negatives = drawn_scores(seed)
    assert_same(loss(positive, negatives, *options), loop(positive, negatives, *options), [positive, negatives])


@pytest.mark.parametrize("chunk", [1, 2, 4, Q, 128])
@pytest.mark.parametrize("seed", range(4))
def test_full_softmax_is_its_loop(seed: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    states, items, positive, rejected = catalogue(seed)
    ours = full_softmax(states, items, positive, rejected)
    expected = full_softmax_loop(states, items, positive, rejected).sum()
    assert_same(ours * 0.3, expected * 0.3, [states, items])


def test_full_softmax_is_plain_cross_entropy_where_nothing_is_rejected() -> None:
    states, items, positive, rejected = catalogue(5)
    for nothing in (rejected[:, :0], torch.full_like(rejected, N)):
        expected = functional.cross_entropy(states @ items.T, positive, reduction="sum")
        assert_same(full_softmax(states, items, positive, nothing), expected, [states, items])


def test_full_softmax_passes_the_numerical_check_of_gradients() -> None:
    states, items, positive, rejected = catalogue(6)
    assert torch.autograd.gradcheck(lambda s, v: full_softmax(s, v, positive, rejected), [states, items])


def test_full_softmax_gives_the_items_nobody_may_rank_no_gradient() -> None:
    states, items, positive, _ = catalogue(7)
    everything = torch.arange(N).expand(Q, N)
    loss = full_softmax(states, items, positive, everything)
    gradients = torch.autograd.grad(loss, [states, items])
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients)


def test_full_softmax_leaves_what_it_was_given_as_it_was() -> None:
    given = catalogue(8)
    before = [tensor.detach().clone() for tensor in given]
    full_softmax(*given).backward()
    for tensor, copy in zip(given, before, strict=True):
        assert torch.equal(tensor, copy)


def test_full_softmax_of_no_targets_is_zero() -> None:
    states, items, positive, rejected = catalogue(9)
    loss = full_softmax(states[:0], items, positive[:0], rejected[:0])
    of_states, of_items = torch.autograd.grad(loss, [states, items])
    assert loss.item() == 0
    assert not of_states.any()
    assert not of_items.any()


def test_full_softmax_stays_finite_for_large_scores() -> None:
    states, items, positive, rejected = (tensor.detach() for tensor in catalogue(10))
    states, items = (300 * states).float().requires_grad_(), items.float().requires_grad_()
    loss = full_softmax(states, items, positive, rejected)
    logits = states.double() @ items.double().T
    rejects = torch.zeros(Q, N + 1, dtype=torch.bool).scatter_(1, rejected, value=True)[:, :-1]
    rejects[torch.arange(Q), positive] = False
    expected = functional.cross_entropy(logits.masked_fill(rejects, -torch.inf), positive, reduction="sum")
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    loss.backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_full_softmax_works_in_float32_in_mixed_precision(half: torch.dtype) -> None:
    """Half-precision states against float32 items, as autocast gives them: nothing is rounded but the gradient."""
    states, items, positive, rejected = (tensor.detach() for tensor in catalogue(11))
    rounded, items = states.to(half).requires_grad_(), items.float().requires_grad_()
    with torch.autocast("cpu", half):
        loss = full_softmax(rounded, items, positive, rejected)
    exact = rounded.detach().double().requires_grad_()
    expected = full_softmax_loop(exact, items.double(), positive, rejected).sum()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    of_states, of_items = torch.autograd.grad(loss, [rounded, items])
    assert of_states.dtype == half
    expected_states, expected_items = torch.autograd.grad(expected, [exact, items])
    torch.testing.assert_close(of_states, expected_states.to(half), rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(of_items, expected_items, rtol=0, atol=1e-5)


def test_full_softmax_holds_no_matrix_of_all_targets_by_all_items() -> None:
    """A chunk of scores, the inputs' gradients and little else is the most that is alive at once."""
    targets, count = 4 * module.CHUNK, 2000
    states, items = torch.randn(targets, D, requires_grad=True), torch.randn(count, D, requires_grad=True)
    rejected = torch.full((targets, 1), count)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        full_softmax(states, items, torch.zeros(targets, dtype=torch.long), rejected).backward()
    allocated = max(event.self_cpu_memory_usage for event in profile.events())
    assert allocated == 4 * module.CHUNK * count


def test_full_softmax_is_counted_as_three_products() -> None:
    states, items, positive, rejected = catalogue(12)
    with flop_counter() as counter:
        full_softmax(states, items, positive, rejected).backward()
    assert counter.get_total_flops() == 3 * 2 * Q * N * D


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_scores_are_computed_in_float32(half: torch.dtype) -> None:
    positive, negatives = (scores.detach().to(half) for scores in drawn_scores(13))
    log_q_positive, log_q_negatives, rejected = drawing(13)
    corrections = (log_q_positive.float(), log_q_negatives.float(), rejected)
    for loss, options in [(sampled_softmax, corrections), (bpr, ()), (bce, ()), (gbce, (N, 0.5))]:
        losses = loss(positive, negatives, *options)  # type: ignore[operator]
        assert losses.dtype == torch.float32
        assert torch.equal(losses, loss(positive.float(), negatives.float(), *options))  # type: ignore[operator]


def test_losses_of_drawn_items_stay_finite_for_large_scores() -> None:
    positive, negatives = torch.tensor([-500.0]), torch.tensor([[500.0, 400.0]])
    assert bpr(positive, negatives).item() == pytest.approx(950)
    assert bce(positive, negatives).item() == pytest.approx((500 + 500 + 400) / 3)
    assert gbce(positive, negatives, 101, 1.0).item() == pytest.approx((0.02 * 500 + 500 + 400) / 3)


def test_gbce_without_calibration_or_with_every_item_drawn_is_bce() -> None:
    positive, negatives = drawn_scores(14)
    expected = bce(positive, negatives)
    torch.testing.assert_close(gbce(positive, negatives, N, 0.0), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gbce(positive, negatives, K + 1, 0.9), expected, rtol=0, atol=1e-12)


def test_a_target_alone_has_a_sampled_softmax_of_zero() -> None:
    rejected = torch.ones(1, 2, dtype=torch.bool)
    loss = sampled_softmax(torch.tensor([2.0]), torch.tensor([[9.0, 9.0]]), torch.zeros(1), torch.zeros(2), rejected)
    assert loss.item() == pytest.approx(2 * math.exp(REJECTED), abs=0)


@pytest.mark.parametrize("loss", [bpr, bce])
def test_losses_of_no_targets_are_empty(loss: Loss) -> None:
    assert loss(torch.empty(0), torch.empty(0, K)).shape == (0,)
    assert gbce(torch.empty(0), torch.empty(0, K), N, 0.5).shape == (0,)
    no_rejected = torch.empty(0, K, dtype=torch.bool)
    assert sampled_softmax(torch.empty(0), torch.empty(0, K), torch.empty(0), torch.zeros(K), no_rejected).shape == (0,)

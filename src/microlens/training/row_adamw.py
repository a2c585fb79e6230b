"""AdamW whose cost does not depend on the rows of a table that a step does not read."""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw

from microlens.encoders.lookup_table import LookupTable

ROW_STEPS = "row_steps"  # the step of each row's last update, beside AdamW's own state
# Missed steps are summed in parts where the row's last step is early, because bias corrections change fast there.
EARLY, PARTS, WHOLE = 256, (0, 1, 2, 4, 8, 16, 32, 64), (0,)
NEGLIGIBLE = 800  # missed steps after which what is left of the first moment is below the precision of float64
DENSE_SHARE = 0.1  # a table of which a step reads more than this share is updated whole from then on, which is cheaper
SMALLEST = 2**22  # numbers of a table below which it is updated whole, because it fits a processor's cache
LARGEST_DECAY = 0.05  # lr * weight_decay up to which the closed form converges fast
ROWS_AT_ONCE = 2**14


class RowAdamW(torch.optim.AdamW):
    r"""AdamW (Loshchilov and Hutter 2019), with the same result for :class:`LookupTable` but less work.

    AdamW moves every row at every step, also those with a zero gradient, by weight decay and momentum. Here, a row is
    moved only before it is read, by all the steps that it has missed. With :math:`m` and :math:`v` as they were at its
    last step :math:`t_0`, :math:`\delta` for 1 - lr * weight_decay and :math:`T - t_0` missed steps, it becomes

    .. math:: \delta^{T - t_0} p - \sum_{s = t_0 + 1}^{T} w_s \frac{m}{\sqrt{v} + \epsilon_s},
        \quad w_s = \mathrm{lr}\, \delta^{T - s} \frac{\beta_1^{s - t_0}}{1 - \beta_1^s} \frac{\epsilon_s}{\epsilon},
        \quad \epsilon_s = \epsilon \sqrt{\frac{1 - \beta_2^s}{\beta_2^{s - t_0}}}

    The sums of :math:`w_s` depend on the steps alone. The denominators differ by :math:`\epsilon_s` only, whose spread
    is small, so the fraction is expanded around their weighted mean, up to the fourth moment. What is left out is below
    1e-6 of the sum where all gradients are as small as epsilon, and below the precision of float64 elsewhere.

    Rows are current after :meth:`catch_up`; call it before the parameters are read in any other way than by
    :meth:`LookupTable.rows`.

    Args:
        params: parameter groups, whose lr, weight_decay, betas and eps must not change.
        by_rows: False to update all tables whole, as small ones are in any case.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, by_rows: bool = True) -> None:
        super().__init__(params, fused=True)
        for group in self.param_groups:
            for table in group["params"]:
                pays = isinstance(table, LookupTable) and table.numel() >= SMALLEST
                if by_rows and pays and group["lr"] * group["weight_decay"] <= LARGEST_DECAY:
                    self._take_over(table, group)

    def _take_over(self, table: LookupTable, group: dict[str, Any]) -> None:
        table.before_reading = partial(self._before_reading, table, group)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the rows with a gradient of tables that are updated by rows, and everything else as AdamW does."""
        for group in self.param_groups:
            for table in group["params"]:
                if isinstance(table, LookupTable) and table.before_reading is not None and table.grad is not None:
                    if table.grad.is_sparse and table.grad.coalesce().values().numel() <= DENSE_SHARE * table.numel():
                        self._step_rows(table, group)
                        table.grad = None
                    else:
                        self._give_back(table, group)
        return super().step(closure)

    @torch.no_grad()
    def catch_up(self) -> None:
        """Make all rows current."""
        for group in self.param_groups:
            for table in group["params"]:
                if ROW_STEPS in self.state[table]:
                    self._make_current(table, group)

    def release(self) -> None:
        """Make all rows current and leave the tables as ordinary parameters, which do not hold on to this optimizer."""
        for group in self.param_groups:
            for table in group["params"]:
                if isinstance(table, LookupTable) and table.before_reading is not None:
                    self._give_back(table, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a state: by rows with the tables that were updated by rows, and else whole."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for table in group["params"]:
                state = self.state[table]
                if ROW_STEPS in state:
                    state[ROW_STEPS] = state[ROW_STEPS].int()  # load_state_dict makes it floating
                    if table.before_reading is None:
                        self._take_over(table, group)
                        self._give_back(table, group)
                elif isinstance(table, LookupTable) and state:
                    table.before_reading = None

    def _give_back(self, table: LookupTable, group: dict[str, Any]) -> None:
        """Update ``table`` whole from now on."""
        self._make_current(table, group)
        self.state.get(table, {}).pop(ROW_STEPS, None)
        table.before_reading = None
        if table.grad is not None and table.grad.is_sparse:
            table.grad = table.grad.to_dense()

    def _make_current(self, table: LookupTable, group: dict[str, Any]) -> None:
        for numbers in torch.split(torch.arange(len(table), device=table.device), ROWS_AT_ONCE):
            self._before_reading(table, group, numbers)

    def _step_rows(self, table: LookupTable, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
            state[ROW_STEPS] = torch.zeros(len(table), dtype=torch.int32, device=table.device)
        assert table.grad is not None
        gradient = table.grad.coalesce()
        numbers = gradient.indices()[0]
        values, average, square = (each[numbers] for each in (table.data, state["exp_avg"], state["exp_avg_sq"]))
        adamw(
            [values], [gradient.values()], [average], [square], [], [state["step"]],
            fused=True, amsgrad=False, maximize=False, beta1=group["betas"][0], beta2=group["betas"][1],
            lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
        )  # fmt: skip
        for whole, part in ((table.data, values), (state["exp_avg"], average), (state["exp_avg_sq"], square)):
            whole[numbers] = part
        state[ROW_STEPS][numbers] = int(state["step"])

    @torch.no_grad()
    def _before_reading(self, table: LookupTable, group: dict[str, Any], numbers: Tensor) -> None:
        """Make the rows ``numbers`` (...) of ``table`` current."""
        state = self.state[table]
        if not state:
            return
        step, last = int(state["step"]), state[ROW_STEPS]
        numbers = numbers.flatten()
        numbers = torch.unique(numbers[last[numbers] < step])
        early = (last[numbers] > 0) & (last[numbers] < EARLY)
        for rows, parts in ((numbers[early], PARTS), (numbers[~early], WHOLE)):
            if len(rows):
                self._move(table, group, rows, parts)
        last[numbers] = step

    def _move(self, table: LookupTable, group: dict[str, Any], rows: Tensor, parts: Sequence[int]) -> None:
        """Move ``rows`` (n,) by all missed steps; the sum over them is expanded in parts that start at ``parts``."""
        (beta1, beta2), decayed, state = group["betas"], group["lr"] * group["weight_decay"], self.state[table]
        sums = missed_sums(beta1, beta2, decayed)
        step, last = int(state["step"]), state[ROW_STEPS][rows]
        average, square = state["exp_avg"][rows], state["exp_avg_sq"][rows]  # (n, D)
        columns = sums.moments(last.cpu().numpy(), step, parts)  # (5, P, n)
        weight, mean, second, third, fourth = torch.from_numpy(columns).to(average)[..., None]  # (P, n, 1) each
        epsilon = mean * group["eps"]
        inverse = (square.sqrt() + epsilon).reciprocal_()  # (P, n, D)
        share = inverse * epsilon
        series = (share * fourth).neg_().add_(third).mul_(share).neg_().add_(second).mul_(share).mul_(share).add_(1)
        moved = series.mul_(inverse).mul_(weight * group["lr"]).sum(0).mul_(average)  # (n, D)
        values = table.data[rows].mul_(_powers(1 - decayed, step - last, average)).sub_(moved)
        table.data[rows] = values
        state["exp_avg"][rows] = average * _powers(beta1, step - last, average)
        state["exp_avg_sq"][rows] = square * _powers(beta2, step - last, average)


def _powers(base: float, exponents: Tensor, like: Tensor) -> Tensor:
    """``base`` to the power of each of ``exponents`` (n,), of the type of ``like``: (n, 1)."""
    return (base ** exponents.double()).to(like)[:, None]


class MissedSums:
    r"""Weighted sums over the steps that rows have missed; see :class:`RowAdamW`.

    With :math:`\rho_j = \beta_1 \beta_2^{-(1 + j) / 2} / \delta` and
    :math:`h_j(s) = (1 - \beta_2^s)^{(1 + j) / 2} / (1 - \beta_1^s)`, the sum of
    :math:`w_s (\epsilon_s / \epsilon)^j` over the steps after a and up to b is

    .. math:: \mathrm{lr}\, \delta^{T - t_0} (\rho_j^{a - t_0} R_j(a) - \rho_j^{b - t_0} R_j(b)),
        \quad R_j(t) = \sum_{k \ge 1} \rho_j^k h_j(t + k) = \rho_j (h_j(t + 1) + R_j(t + 1))

    Args:
        beta1: AdamW's first beta.
        beta2: AdamW's second beta.
        decayed: lr * weight_decay.
    """

    def __init__(self, beta1: float, beta2: float, decayed: float) -> None:
        self.beta1, self.beta2, self.delta = beta1, beta2, 1 - decayed
        self.ratios = beta1 * beta2 ** (-(1 + np.arange(5)) / 2) / self.delta  # (5,)
        self.powers = self.ratios ** np.arange(NEGLIGIBLE + 1)[:, None]
        self.tails = np.zeros((0, 5))

    def moments(self, last: npt.NDArray[np.int32], step: int, parts: Sequence[int]) -> npt.NDArray[np.float64]:
        """Sums over parts of the missed steps, which begin after ``parts`` (P,) of them; the last one ends at ``step``.

        For rows last updated at ``last`` (n,): (5, P, n), the sum of the weights without lr, the mean of epsilon's
        factor, and its second, third and fourth central moments relative to the mean. Rows that have not missed so many
        steps have a sum of 0.
        """
        if step >= len(self.tails):
            self.tails = self._tails(2 * step + NEGLIGIBLE)
        missed = step - last.astype(np.int64)  # (n,)
        edges = np.minimum(np.array([*parts, step])[:, None], missed)  # (P + 1, n)
        after = self.powers[np.minimum(edges, NEGLIGIBLE)] * self.tails[last + edges]  # sums over all later steps
        sums = after[:-1] - after[1:]  # (P, n, 5)
        empty = edges[:-1] == edges[1:]
        sums[empty] = 1
        total, *raw = np.moveaxis(sums, 2, 0)
        mean = raw[0] / total
        second, third, fourth = (raw[power - 1] / total / mean**power for power in (2, 3, 4))
        weight = np.where(empty, 0.0, total * self.delta**missed)
        return np.stack(
            [weight, mean, second - 1, third - 3 * second + 2, fourth - 4 * third + 6 * second - 3],
        )

    def _tails(self, count: int) -> npt.NDArray[np.float64]:
        """R of the steps below ``count``."""
        steps = np.arange(1, count + NEGLIGIBLE)[:, None]
        terms = (1 - self.beta2**steps) ** ((1 + np.arange(5)) / 2) / (1 - self.beta1**steps)  # h of steps 1, 2, ...
        tails = np.zeros((len(terms) + 1, 5))
        for step in range(len(terms) - 1, -1, -1):
            tails[step] = self.ratios * (terms[step] + tails[step + 1])
        return tails[:count]


@cache
def missed_sums(beta1: float, beta2: float, decayed: float) -> MissedSums:
    """The sums of these options, whose arrays grow with the steps."""
    return MissedSums(beta1, beta2, decayed)


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale all gradients, sparse ones included, so that their common norm is at most ``max_norm``."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
                gradients.append(parameter.grad.values())
            else:
                gradients.append(parameter.grad)
    scale = (max_norm / (get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.to(gradient.device))

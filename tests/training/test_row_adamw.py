"""AdamW by rows against AdamW of the whole table."""

import pickle
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.encoders.lookup_table import LookupTable
from microlens.training import row_adamw
from microlens.training.row_adamw import ROW_STEPS, RowAdamW, clip_gradients

ROWS, DIM = 40, 4
OPTIONS = {"lr": 1e-2, "weight_decay": 0.1}


@pytest.fixture(autouse=True)
def _small_tables_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_adamw, "SMALLEST", 0)


def world(scale: float, steps: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """The rows that each step reads, long-tailed so that gaps are from 1 to hundreds, and what pulls them."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, ROWS + 1) ** 2
    chosen = [rng.choice(ROWS - 1, 3, p=share[:-1] / share[:-1].sum()) for _ in range(steps)]  # the last row: never
    return [(torch.from_numpy(rows), torch.from_numpy(rng.normal(size=(3, DIM)) * scale)) for rows in chosen]


def trained(
    steps: list[tuple[Tensor, Tensor]], *, by_rows: bool, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, RowAdamW, LookupTable]:
    """The table after the steps, and what it read at each."""
    generator = torch.Generator().manual_seed(1)
    table = LookupTable(torch.randn(ROWS, DIM, generator=generator, dtype=torch.float64).to(dtype))
    optimizer = RowAdamW([{"params": [table], **OPTIONS}], by_rows=by_rows)
    return torch.stack([step(table, optimizer, *each) for each in steps]), optimizer, table


def step(table: LookupTable, optimizer: RowAdamW, rows: Tensor, pull: Tensor) -> Tensor:
    read = table.rows(rows)
    optimizer.zero_grad()
    (read * pull.to(read.dtype)).sum().backward()
    optimizer.step()
    return read.detach().clone()


class TestRowAdamW:
    @pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-12), (1e-4, 1e-10), (1e-7, 1e-8), (1e-9, 1e-8)])
    def test_rows_are_those_of_the_whole_table_whenever_they_are_read(self, scale: float, tolerance: float) -> None:
        steps = world(scale, 900)
        read, optimizer, table = trained(steps, by_rows=True)
        expected, whole, twin = trained(steps, by_rows=False)
        assert (read - expected).abs().max() < tolerance
        assert int((optimizer.state[table][ROW_STEPS] < 900).sum()) > ROWS // 2
        optimizer.catch_up()
        for ours, theirs in ((table, twin), *((optimizer.state[table][n], whole.state[twin][n]) for n in MOMENTS)):
            assert (ours - theirs).abs().max() < tolerance

    def test_a_row_that_was_never_read_decays(self) -> None:
        steps = world(1.0, 300)
        _, optimizer, table = trained(steps, by_rows=True)
        before = table[-1].detach().clone()
        optimizer.catch_up()
        torch.testing.assert_close(table[-1].detach(), before * (1 - 1e-3) ** 300)

    @pytest.mark.parametrize("last", [0, 1, 3, 20, 255])
    @pytest.mark.parametrize("parts", [(0,), (0, 1, 2, 4, 8, 16, 32, 64)])
    def test_sums_over_missed_steps_are_those_of_a_loop(self, last: int, parts: tuple[int, ...]) -> None:
        beta1, beta2, decayed, step = 0.9, 0.999, 1e-3, 700
        rows = np.array([last, step - 1], np.int32)
        sums = row_adamw.MissedSums(beta1, beta2, decayed).moments(rows, step, parts)
        for part, (begin, end) in enumerate(pairwise([*parts, step])):
            weights, factors = [], []
            for now in range(last + begin + 1, min(last + end, step) + 1):
                factors.append(((1 - beta2**now) / beta2 ** (now - last)) ** 0.5)
                moment = beta1 ** (now - last) / (1 - beta1**now)
                weights.append((1 - decayed) ** (step - now) * moment * factors[-1])
            total, mean = sum(weights), np.average(factors, weights=weights)
            central = [np.average((np.array(factors) / mean - 1) ** power, weights=weights) for power in (2, 3, 4)]
            np.testing.assert_allclose(sums[:, part, 0], [total, mean, *central], rtol=1e-9, atol=1e-12)
            assert (sums[0, part, 1] > 0) == (part == 0)  # of a row that has missed one step

    def test_float32_stays_close(self) -> None:
        steps = world(1e-2, 900)
        read = trained(steps, by_rows=True, dtype=torch.float32)[0]
        assert (read.double() - trained(steps, by_rows=False)[0]).abs().max() < 1e-5

    def test_a_table_that_is_read_whole_is_updated_whole(self) -> None:
        table = LookupTable(torch.randn(ROWS, DIM, dtype=torch.float64))
        twin = nn.Parameter(table.detach().clone())
        optimizer = RowAdamW([{"params": [table], **OPTIONS}])
        reference = torch.optim.AdamW([twin], **OPTIONS)
        for rows in (torch.tensor([1, 2]), torch.arange(5), torch.tensor([3])):
            read = table.rows(rows)
            read.square().sum().backward()
            twin[rows].square().sum().backward()
            for each in (optimizer, reference):
                each.step()
                each.zero_grad()
        assert table.before_reading is None
        torch.testing.assert_close(table.data, twin.data)

    def test_a_state_in_the_middle_goes_on_exactly(self) -> None:
        steps = world(1.0, 400)
        expected = trained(steps, by_rows=True)[0]
        read, optimizer, table = trained(steps[:300], by_rows=True)
        other = LookupTable(table.detach().clone())
        resumed = RowAdamW([{"params": [other], **OPTIONS}])
        resumed.load_state_dict(deepcopy(optimizer.state_dict()))
        rest = torch.stack([step(other, resumed, *each) for each in steps[300:]])
        assert torch.equal(torch.cat([read, rest]), expected)

    def test_a_state_by_rows_goes_on_whole_where_rows_are_not_wanted(self) -> None:
        steps = world(1.0, 400)
        expected = trained(steps, by_rows=False)[0]
        read, optimizer, table = trained(steps[:300], by_rows=True)
        other = LookupTable(table.detach().clone())
        resumed = RowAdamW([{"params": [other], **OPTIONS}], by_rows=False)
        resumed.load_state_dict(deepcopy(optimizer.state_dict()))
        rest = torch.stack([step(other, resumed, *each) for each in steps[300:]])
        assert (torch.cat([read, rest]) - expected).abs().max() < 1e-12
        assert ROW_STEPS not in resumed.state[other]

    def test_a_released_table_is_an_ordinary_parameter(self) -> None:
        steps = world(1.0, 400)
        _, optimizer, table = trained(steps, by_rows=True)
        expected = trained(steps, by_rows=False)[2]
        optimizer.release()
        torch.testing.assert_close(table.data, expected.data)
        assert table.before_reading is None
        table.rows(torch.tensor([1])).sum().backward()
        assert table.grad is not None
        assert not table.grad.is_sparse

    def test_a_small_table_is_updated_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(row_adamw, "SMALLEST", ROWS * DIM + 1)
        table = LookupTable(torch.randn(ROWS, DIM))
        RowAdamW([{"params": [table], **OPTIONS}])
        assert table.before_reading is None

    def test_a_decay_beyond_the_closed_form_updates_tables_whole(self) -> None:
        table = LookupTable(torch.randn(ROWS, DIM))
        RowAdamW([{"params": [table], "lr": 0.5, "weight_decay": 0.5}])
        assert table.before_reading is None


MOMENTS = ("exp_avg", "exp_avg_sq")


class TestLookupTable:
    def test_a_copy_belongs_to_no_optimizer(self) -> None:
        table = LookupTable(torch.randn(ROWS, DIM))
        RowAdamW([{"params": [table], **OPTIONS}])
        for copy in (deepcopy(table), pickle.loads(pickle.dumps(table))):
            assert isinstance(copy, LookupTable)
            assert copy.before_reading is None
            assert torch.equal(copy, table)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_rows_that_are_read_without_gradients_are_current(self, mode: type[torch.no_grad]) -> None:
        steps = world(1.0, 50)
        _, _, table = trained(steps, by_rows=True)
        expected = trained(steps, by_rows=False)[2]
        with mode():
            torch.testing.assert_close(table.rows(torch.arange(ROWS)), expected.data)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_sparse_and_dense_gradients_are_clipped_together(max_norm: float) -> None:
    table, other = nn.Parameter(torch.randn(ROWS, DIM)), nn.Parameter(torch.randn(5))
    twins = [nn.Parameter(each.detach().clone()) for each in (table, other)]
    rows = torch.tensor([3, 3, 7])
    loss = nn.functional.embedding(rows, table, sparse=True).square().sum() + other.square().sum()
    loss.backward()
    (twins[0][rows].square().sum() + twins[1].square().sum()).backward()
    clip_gradients([table, other], max_norm)
    nn.utils.clip_grad_norm_(twins, max_norm)
    for ours, theirs in zip((table, other), twins, strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad)

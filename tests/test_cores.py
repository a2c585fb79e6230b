"""How many cores a process may use."""

import os
from pathlib import Path

import pytest

from microlens import cores


@pytest.mark.parametrize(
    ("name", "text", "quota"),
    [
        ("cpu.max", "max 100000\n", None),
        ("cpu.max", "150000 100000\n", 1.5),
        ("cpu.max", "unreadable\n", None),
        ("cpu/cpu.cfs_quota_us", "-1\n", None),
        ("cpu/cpu.cfs_quota_us", "50000\n", 0.5),
        ("other", "", None),
    ],
)
def test_the_quota_of_a_control_group(name: str, text: str, quota: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / name).write_text(text)
    assert cores._quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("affinity", "quota", "found"), [({0, 5}, None, 2), ({0, 1, 2, 3}, 1.5, 2), ({0}, 8.0, 1), ({0, 1}, 0.2, 1)]
)
def test_the_cores_of_a_process_are_the_fewest_of_all_limits(
    affinity: set[int], quota: float | None, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: affinity, raising=False)
    monkeypatch.setattr(cores, "_quota", lambda root: quota)
    assert cores.available_cores() == found


def test_a_system_without_affinity_counts_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores, "_quota", lambda root: None)
    assert cores.available_cores() == 64

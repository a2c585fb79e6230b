"""Tests that share a set-up stay together when several workers run them."""

from tests.conftest import REPOSITORY
from tests.scheduling import BY_PARAMETER, LONGEST, ONE_BY_ONE, BySetUp


def test_what_shares_a_set_up_is_one_unit_of_work() -> None:
    def unit(nodeid: str) -> str:
        return BySetUp._split_scope(None, nodeid)  # type: ignore[arg-type]

    tuning, baselines = "tests/encoders/test_tuning.py", "tests/recommenders/test_baselines.py"
    assert (
        unit("tests/page/test_page.py::test_one")
        == unit("tests/page/test_page.py::test_two[a]")
        == "tests/page/test_page.py"
    )
    assert unit(f"{tuning}::test_one[x3d_xs-full]") == unit(f"{tuning}::test_two[x3d_xs-full]") != unit(tuning)
    assert unit(f"{tuning}::test_one[x3d_xs-full]") != unit(f"{tuning}::test_one[x3d_xs-top]")
    assert unit(f"{tuning}::test_three") == unit(f"{tuning}::test_four") == tuning
    assert unit(f"{baselines}::test_one[a]") != unit(f"{baselines}::test_one[b]")


def test_the_files_that_are_dealt_out_otherwise_are_there() -> None:
    there = {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert there >= {*LONGEST, *BY_PARAMETER, *ONE_BY_ONE}


def test_no_test_trusts_in_marks_that_xdist_does_not_see() -> None:
    """With pytest 9.2, xdist 3.8 leaves its group out of the test's name, and so deals out a group's tests singly."""
    mark = "xdist" + "_group"
    assert not [path for path in (REPOSITORY / "tests").rglob("*.py") if mark in path.read_text()]

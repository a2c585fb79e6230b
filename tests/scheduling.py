"""Which worker runs which tests: those that share a set-up go to one, and what can be dealt out singly comes last."""

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

LONGEST = ("test_speed.py", "test_baselines.py", "test_cost.py", "test_gradient_caching.py")  # are begun first
BY_PARAMETER = ("test_tuning.py",)  # a fixture of the module for each parameter
ONE_BY_ONE = ("test_baselines.py", "test_every_encoder.py")  # nothing dear is shared


class BySetUp(LoadScopeScheduling):
    """Deals out files, but for a few whose tests go by their parameter or one by one."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False  # the order of collection, see in_order
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        if path.endswith(ONE_BY_ONE):
            return nodeid
        if path.endswith(BY_PARAMETER) and "[" in test:
            return path + test[test.index("[") :]
        return path


def in_order(item: pytest.Item) -> int:
    """The place of an item: long files at the start, and at the end what fills up a worker that has nothing left."""
    name = item.path.name
    if name in LONGEST:
        return LONGEST.index(name)
    return len(LONGEST) + (name in BY_PARAMETER + ONE_BY_ONE)

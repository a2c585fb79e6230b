"""SlowFast: which frames its pathways see, and what goes between them."""

import pytest
import torch
from torch import Tensor

from microlens.encoders.video.slowfast import SLOWFAST_NETWORKS, SlowFast, SlowFastR50


@pytest.fixture(scope="module")
def trunk() -> SlowFast:
    torch.manual_seed(0)
    return SlowFastR50().eval()


def numbered(frames: int) -> Tensor:
    """Clips in which every pixel is the number of its frame."""
    return torch.arange(frames).float().view(1, 1, frames, 1, 1).expand(2, 3, frames, 8, 8)


@pytest.mark.parametrize(
    ("frames", "slow"),
    [
        (1, [0]),
        (4, [0]),
        (5, [0, 4]),  # as in the MicroLens code
        (8, [0, 7]),
        (9, [0, 4, 8]),
        (32, [0, 4, 8, 13, 17, 22, 26, 31]),
        (64, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
    ],
)
def test_the_slow_pathway_sees_every_fourth_frame_and_the_fast_one_all(
    trunk: SlowFast, frames: int, slow: list[int]
) -> None:
    of_slow, of_fast = trunk.begin(numbered(frames))
    assert of_slow.shape == (2, 3, len(slow), 8, 8)
    assert of_slow[1, 2, :, 3, 3].tolist() == slow
    assert torch.equal(of_fast, numbered(frames))


@pytest.mark.parametrize("name", SLOWFAST_NETWORKS)
def test_the_pathways_fit_together_at_every_length(name: str) -> None:
    trunk = SLOWFAST_NETWORKS[name].build().eval()
    stem = trunk.stages()[0]
    for frames in range(1, 41):
        with torch.inference_mode():
            slow, fast = stem.run(trunk.begin(torch.randn(1, 3, frames, 8, 8)))
        assert slow.shape == (1, 64 + 16, -(-frames // 4), 2, 2)
        assert fast.shape == (1, 8, frames, 2, 2)


def test_features_are_the_means_of_the_slow_and_then_the_fast_pathway(trunk: SlowFast) -> None:
    slow, fast = torch.randn(2, 2048, 2, 3, 3), torch.randn(2, 256, 5, 3, 3)
    features = trunk.pool((slow, fast))
    assert trunk.feature_dim == 2304
    torch.testing.assert_close(features[:, :2048], slow.flatten(2).mean(2))
    torch.testing.assert_close(features[:, 2048:], fast.flatten(2).mean(2))


def test_what_the_slow_pathway_does_not_see_reaches_it_through_the_fusions(trunk: SlowFast) -> None:
    clips = torch.randn(1, 3, 8, 32, 32)
    changed = clips.clone()
    changed[:, :, 3] = 0
    with torch.inference_mode():
        assert torch.equal(trunk.begin(clips)[0], trunk.begin(changed)[0])
        difference = trunk.features(clips) - trunk.features(changed)
    assert difference[:, :2048].abs().max() > 0
    assert difference[:, 2048:].abs().max() > 0


def test_the_fast_pathway_learns_nothing_from_the_slow_one(trunk: SlowFast) -> None:
    hidden = trunk.begin(torch.randn(1, 3, 8, 32, 32))
    blank = (torch.zeros_like(hidden[0]), hidden[1])
    with torch.inference_mode():
        for stage in trunk.stages():
            hidden, blank = stage.run(hidden), stage.run(blank)
    assert torch.equal(hidden[1], blank[1])
    assert not torch.equal(hidden[0], blank[0])

"""RQ-VAE: its loss and its gradients against derivations, training, and what a killed training leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from microlens.quantization import rqvae
from microlens.quantization.report import report_codes
from microlens.quantization.rqvae import COMMITMENT, RQVAE, train_rqvae
from tests.reference import quantization as loops


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rqvae, "HIDDEN", (8,))
    monkeypatch.setattr(rqvae, "LATENT", 4)
    monkeypatch.setattr(rqvae, "BATCH", 32)


def clusters() -> np.ndarray:
    """Sixty vectors around twelve points of six dimensions: each of four points plus each of three small steps."""
    rng = np.random.default_rng(0)
    coarse, fine = 4 * rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    points = (coarse[:, None] + fine).reshape(12, 6)
    return (points[np.arange(60) % 12] + 0.02 * rng.normal(size=(60, 6))).astype(np.float32)


def a_model() -> RQVAE:
    model = RQVAE(6, levels=3, num_codes=5)
    with torch.no_grad():
        model.codebooks.normal_()
    return model.double()


def test_codes_and_loss_are_those_of_a_loop() -> None:
    model, vectors = a_model(), torch.from_numpy(clusters()[:7]).double()
    codebooks = model.codebooks.detach().numpy()
    with torch.no_grad():
        latent = model.encoder(vectors)
        levels = model.quantize(latent)
        loss = 0.0
        for row, own in enumerate(latent.numpy()):
            codes, residual = loops.nearest_codes(own, codebooks)
            assert levels.codes[row].tolist() == codes
            np.testing.assert_allclose(levels.quantized[row], own - residual)
            restored = model.decoder(torch.from_numpy(own - residual)).numpy()
            loss += loops.squared_distance(vectors[row].numpy(), restored)
            loss += loops.codebook_loss(own, codebooks, COMMITMENT)
        assert float(model.loss(vectors)) == pytest.approx(loss / 7)


def test_gradients_are_those_of_the_paper() -> None:
    """Codes move to their residuals, the encoder to its codes, and the decoder's gradient passes straight through."""
    model = a_model()
    latent = torch.randn(1, 4, dtype=torch.double, requires_grad=True)
    levels = model.quantize(latent)
    levels.loss.sum().backward()
    residual, expected = latent.detach()[0], torch.zeros(4, dtype=torch.double)
    assert model.codebooks.grad is not None
    for level, code in enumerate(levels.codes[0].tolist()):
        chosen = model.codebooks.detach()[level, code]
        torch.testing.assert_close(model.codebooks.grad[level, code], 2 * (chosen - residual))
        expected += 2 * COMMITMENT * (residual - chosen)
        residual = residual - chosen
    torch.testing.assert_close(latent.grad, expected[None])
    model.zero_grad()
    vectors = torch.randn(3, 6, dtype=torch.double)
    kept = model.encoder(vectors).detach()
    quantized = model.quantize(kept).quantized.detach().requires_grad_()
    (vectors - model.decoder(quantized)).square().sum(1).mean().backward()
    straight = kept.clone().requires_grad_()
    model.encoder.forward = lambda _: straight  # type: ignore[method-assign]
    model.loss(vectors).backward()
    without = kept.clone().requires_grad_()
    model.quantize(without).loss.mean().backward()
    assert straight.grad is not None
    torch.testing.assert_close(straight.grad - without.grad, quantized.grad)


def test_training_restores_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve clusters have codes of their own, and the vectors are nearly restored."""
    monkeypatch.setattr(rqvae, "LEARNING_RATE", 0.01)
    vectors = clusters()
    found = train_rqvae(vectors, levels=2, num_codes=4, seed=0, epochs=150)
    assert report_codes(found.codes, vectors, found.restored).error < 0.2
    pure = [len({tuple(row) for row in found.codes[kind::12].tolist()}) for kind in range(12)]
    assert np.mean(pure) < 1.5
    untrained = train_rqvae(vectors, levels=2, num_codes=4, seed=0, epochs=1)
    assert report_codes(untrained.codes, vectors, untrained.restored).error > 0.5


def test_a_killed_training_resumed_ends_in_the_same_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rqvae, "EPOCHS_BETWEEN_SAVES", 2)
    arguments = {"levels": 2, "num_codes": 4, "seed": 0, "epochs": 6}
    whole = train_rqvae(clusters(), **arguments)

    def killed(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_rqvae(clusters(), **arguments, saved=tmp_path / "saved", on_progress=killed)
    seen: list[int] = []
    again = train_rqvae(
        clusters(), **arguments, saved=tmp_path / "saved", on_progress=lambda done, _: seen.append(done)
    )
    assert seen == [3, 4, 5, 6]
    np.testing.assert_array_equal(again.restored, whole.restored)
    np.testing.assert_array_equal(again.codes, whole.codes)


def test_a_state_of_other_vectors_or_a_damaged_one_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqvae, "EPOCHS_BETWEEN_SAVES", 1)
    arguments = {"levels": 2, "num_codes": 4, "epochs": 3}
    whole = train_rqvae(clusters(), **arguments, seed=0)

    def epochs(seed: int = 0) -> list[int]:
        seen: list[int] = []
        found = train_rqvae(
            clusters(), **arguments, seed=seed, saved=tmp_path / "saved", on_progress=lambda done, _: seen.append(done)
        )
        if not seed:
            np.testing.assert_array_equal(found.codes, whole.codes)
        return seen

    train_rqvae(2 * clusters(), **{**arguments, "epochs": 2}, seed=0, saved=tmp_path / "saved")
    assert epochs() == [1, 2, 3]
    assert epochs() == []
    assert epochs(seed=1) == [1, 2, 3]
    train_rqvae(clusters()[:, :3], **{**arguments, "epochs": 2}, seed=0, saved=tmp_path / "saved")
    assert epochs() == [1, 2, 3]
    (tmp_path / "saved").write_bytes((tmp_path / "saved").read_bytes()[:-10])
    assert epochs() == [1, 2, 3]


def test_the_weights_of_the_loss_are_those_of_the_paper() -> None:
    assert COMMITMENT == 0.25


def test_the_seed_decides_everything_and_leaves_pytorchs_generator_alone() -> None:
    state = torch.get_rng_state()
    one, again, other = (train_rqvae(clusters(), levels=1, num_codes=4, seed=seed, epochs=2) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(one.restored, again.restored)
    assert (one.restored != other.restored).any()


def test_epochs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="epochs = 0"):
        train_rqvae(clusters(), levels=1, num_codes=4, seed=0, epochs=0)

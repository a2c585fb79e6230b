"""RQ-VAE: an autoencoder whose latent vectors are quantised by residuals (Zeghidour et al. 2021; Lee et al. 2022)."""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from microlens.errors import InputError
from microlens.quantization.kmeans import Float32, OnProgress, Quantized, check_sizes, residual_codebooks
from microlens.training import checkpoint

COMMITMENT = 0.25
HIDDEN = (512, 256, 128)
LATENT = 32
BATCH = 1024
LEARNING_RATE = 1e-3
EPOCHS_BETWEEN_SAVES = 50


class RQVAE(nn.Module):
    r"""An encoder and a decoder with ReLU layers, and a codebook for each level.

    With z the latent vector of x, :math:`r_1 = z`, and c the nearest code of each level's residual,

    .. math:: r_{l+1} = r_l - e_l(c_l), \quad \hat z = \sum_l e_l(c_l), \quad
        \lVert x - \hat x \rVert^2 + \sum_l \lVert \mathrm{sg}[r_l] - e_l(c_l) \rVert^2
        + \beta \lVert r_l - \mathrm{sg}[e_l(c_l)] \rVert^2

    is the loss (TIGER, arXiv 2305.05065, section 3.1), where sg stops the gradient. The decoder reads :math:`\hat z`,
    and its gradient reaches z unchanged (straight-through). A residual's gradient does not reach the codes before it,
    so that the last term is the commitment of Lee et al. (2022, equation 9) at each level.

    Letters: F features, Z latent size, C levels, K codes.

    Args:
        num_features: F.
        levels: C.
        num_codes: K.
    """

    def __init__(self, num_features: int, levels: int, num_codes: int) -> None:
        super().__init__()
        sizes = [num_features, *HIDDEN, LATENT]
        self.encoder = _layers(sizes)
        self.decoder = _layers(sizes[::-1])
        self.codebooks = nn.Parameter(torch.zeros(levels, num_codes, LATENT))

    def start_codebooks(self, vectors: Tensor, seed: int) -> None:
        """Set the codebooks by residual k-means of the latent vectors of a batch (B, F)."""
        levels, num_codes, _ = self.codebooks.shape
        with torch.no_grad():
            latent = self.encoder(vectors).numpy()  # (B, Z)
            _, codebooks = residual_codebooks(latent, levels=levels, num_codes=num_codes, seed=seed, balanced=False)
            self.codebooks.copy_(torch.from_numpy(codebooks))

    def quantize(self, latent: Tensor) -> "Levels":
        """The codes of latent vectors (B, Z), nearest first, and the loss of the codebooks."""
        residual, codes, total = latent, [], torch.zeros_like(latent)
        loss = latent.new_zeros(len(latent))
        for codebook in self.codebooks:
            nearest = torch.cdist(residual.detach(), codebook.detach()).argmin(1)  # (B,)
            chosen = codebook[nearest]  # (B, Z)
            loss = loss + (residual.detach() - chosen).square().sum(1)
            loss = loss + COMMITMENT * (residual - chosen.detach()).square().sum(1)
            residual = residual - chosen.detach()
            total = total + chosen
            codes.append(nearest)
        return Levels(torch.stack(codes, 1), total, loss)

    def loss(self, vectors: Tensor) -> Tensor:
        """The mean loss of vectors (B, F)."""
        latent = self.encoder(vectors)
        levels = self.quantize(latent)
        restored = self.decoder(latent + (levels.quantized - latent).detach())
        loss: Tensor = ((vectors - restored).square().sum(1) + levels.loss).mean()
        return loss


class Levels(NamedTuple):
    """Codes (B, C), their sum (B, Z) and the loss of the codebooks (B,)."""

    codes: Tensor
    quantized: Tensor
    loss: Tensor


def train_rqvae(
    vectors: Float32,
    *,
    levels: int,
    num_codes: int,
    seed: int,
    epochs: int,
    saved: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Quantized:
    """Train an RQ-VAE on vectors (N, F) and quantise them with it.

    Training starts with codebooks by k-means of the first batch. It resumes from ``saved``, with bitwise identical
    results on the same machine, if that was written for the same vectors and arguments; a damaged file is ignored.

    Args:
        vectors: (N, F).
        levels: C, at least 1.
        num_codes: K, from 2 to the number of vectors, of which the first batch has at most 1,024, or K.
        seed: of the initial weights and the order of vectors.
        epochs: passes over the vectors, at least 1.
        saved: checkpoint of an interrupted training, written from time to time.
        on_progress: called with (done, total) epochs.

    Raises:
        ValueError: an argument is out of range, or the loss is not finite.
    """
    check_sizes(len(vectors), levels, num_codes)
    if epochs < 1:
        raise ValueError(f"epochs = {epochs}: at least 1 is needed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RQVAE(vectors.shape[1], levels, num_codes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    tensor = torch.from_numpy(vectors)
    digest = hashlib.sha256(vectors.tobytes()).hexdigest()
    identity = {"vectors": digest, "arguments": [*vectors.shape, levels, num_codes, seed]}
    done = _resume(model, optimizer, saved, identity) if saved is not None else 0
    if not done:
        model.start_codebooks(tensor[_order(len(tensor), seed, 0)[: max(BATCH, num_codes)]], seed)
    for epoch in range(done, epochs):
        for rows in torch.split(_order(len(tensor), seed, epoch), BATCH):
            loss = model.loss(tensor[rows])
            if not loss.isfinite():
                raise ValueError(f"the loss of the RQ-VAE is {loss.item()} in epoch {epoch + 1}; scale the features")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if saved is not None and (epoch + 1) % EPOCHS_BETWEEN_SAVES == 0:
            tensors = checkpoint.with_prefix("model", model.state_dict()) | _optimizer_state(optimizer)
            checkpoint.save(saved, tensors, {"epoch": epoch + 1, **identity})
        if on_progress:
            on_progress(epoch + 1, epochs)
    with torch.no_grad():
        found = model.quantize(model.encoder(tensor))
        return Quantized(found.codes.numpy(), model.decoder(found.quantized).numpy())


def _layers(sizes: list[int]) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


def _optimizer_state(optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    return checkpoint.with_prefix("optimizer", checkpoint.optimizer_tensors(optimizer))


def _resume(model: RQVAE, optimizer: torch.optim.AdamW, path: Path, identity: dict[str, Any]) -> int:
    """Load the state of an interrupted training; return the number of epochs done, 0 without such a state."""
    try:
        tensors, facts = checkpoint.load(path)
    except InputError:  # missing or damaged
        return 0
    if any(facts.get(name) != value for name, value in identity.items()):
        return 0
    model.load_state_dict(checkpoint.under("model", tensors))
    checkpoint.load_optimizer(optimizer, checkpoint.under("optimizer", tensors), path)
    return int(facts["epoch"])

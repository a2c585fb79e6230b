"""MViT video networks: MViT-B 16x4 and 32x3, and the ImageNet model MViT-B-16 applied to every frame.

Fan et al., "Multiscale Vision Transformers", ICCV 2021, arXiv 2104.11227. Names, shapes and order of the parameters are
those of PyTorchVideo 0.1.5, so that its checkpoints load. Clips of any length and size are accepted: if their grid of
patches differs from that of a positional table, the table is interpolated on the fly and keeps its shape.
"""

import logging
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from microlens.encoders.trunk import Hidden, Stage, Trunk
from microlens.encoders.video.depthwise import DepthwiseConv3d
from microlens.encoders.video.network import VideoNetwork, zoo

HEAD_WIDTH = 96  # width of an attention head; a block with h heads has tokens of size 96 * h
BLOCK_HEADS = (1, 2, 2, *[4] * 11, 8, 8)
MLP_RATIO = 4
PATCH_STRIDE = 4
TABLE_SIZE = 224 // PATCH_STRIDE
KINETICS_CLASSES = 400
HEAD_DROPOUT = 0.5

Grid: TypeAlias = tuple[int, int, int]


class MViT(Trunk):
    """MViT-B: patches with positions, 16 transformer blocks over increasingly coarse grids, norm and classifier.

    Positions are the sum of a spatial table for 224 x 224 pixels and a temporal table. If the grid of patches of a clip
    differs, they are interpolated linearly (`functional.interpolate`, ``align_corners=False``).

    The hidden state is ``cls (M, G, C)``, one class token for each of G groups of frames that attend to each other, and
    ``grid (M, T, H, W, C)``; here G = 1.

    Args:
        frames: clip length of the temporal table.
    """

    feature_dim = HEAD_WIDTH * BLOCK_HEADS[-1]
    paper_top = 2
    num_classes = KINETICS_CLASSES
    mean = (0.45, 0.45, 0.45)
    std = (0.225, 0.225, 0.225)
    by_frame = False
    pool_kernel: Grid = (3, 3, 3)
    key_stride = 8

    def __init__(self, *, frames: int) -> None:
        super().__init__()
        self.patch_embed = _Patches(by_frame=self.by_frame)
        self.cls_positional_encoding = _Positions(frames=self._frames_of_patches(frames))
        self.blocks = nn.ModuleList()
        for heads, before, after in zip(
            BLOCK_HEADS, (1, *BLOCK_HEADS[:-1]), (*BLOCK_HEADS[1:], BLOCK_HEADS[-1]), strict=True
        ):
            self.blocks.append(
                _Block(
                    heads,
                    width_out=HEAD_WIDTH * after,
                    kernel=self.pool_kernel,
                    query_stride=heads // before,
                    key_stride=max(self.key_stride // heads, 1),
                )
            )
        self.norm_embed = nn.LayerNorm(self.feature_dim, eps=1e-6)
        self.head = _Head(self.feature_dim)
        self._draw()

    def _draw(self) -> None:
        """Initialize random weights as PyTorchVideo; convolutions keep PyTorch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, _Positions):
                for table in module.parameters():
                    nn.init.trunc_normal_(table, std=0.02)

    def stages(self) -> list[Stage]:
        """The patch embedding of clips (M, 3, F, H, W) with positions, and the 16 blocks; any F, H, W >= 1."""
        embedding = Stage(self._embed, (self.patch_embed, self.cls_positional_encoding))
        return [embedding, *(Stage(partial(_through, block), (block,)) for block in self.blocks)]

    def _embed(self, hidden: Hidden) -> Hidden:
        grid = self.patch_embed(hidden[0])
        cls, grid = self.cls_positional_encoding(grid, groups=grid.shape[1] if self.by_frame else 1)
        return cls, grid

    def pool(self, hidden: Hidden) -> Tensor:
        """The class tokens, normalised and averaged over groups: (M, 768)."""
        normalised: Tensor = self.norm_embed(hidden[0])
        return normalised.mean(1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (M, 400) of pooled features."""
        logits: Tensor = self.head(features)
        return logits

    def drop_classifier(self) -> None:
        """Remove the classifier, which `features` does not use."""
        self.head.proj = nn.Identity()

    def check_clip(self, frames: int, size: int) -> None:
        """Accept every clip, but log a warning if positions have to be interpolated."""
        needed = self._frames_of_patches(frames), -(-size // PATCH_STRIDE)
        table = self.cls_positional_encoding.pos_embed_temporal.shape[1], TABLE_SIZE
        if needed != table:
            logging.getLogger("microlens").warning(
                "MViT's positional tables have %d x %d x %d patches and are interpolated to %d x %d x %d for clips of "
                "%d frames and %d pixels.",
                *(table[0], table[1], table[1], needed[0], needed[1], needed[1], frames, size),
            )

    def _frames_of_patches(self, frames: int) -> int:
        """The number of temporal positions of a clip of ``frames`` frames."""
        return 1 if self.by_frame else -(-frames // 2)

    def adapted(self) -> list[str]:
        """The linear layers of attention blocks."""
        return [name for name, module in self.named_modules() if ".attn." in name and isinstance(module, nn.Linear)]


class FrameMViT(MViT):
    """MViT-B-16, an ImageNet model, applied to each frame; features and logits are averaged over the frames.

    The MicroLens code runs this under the name MViT-B-16x4, with a new classifier of 400 classes: that of the official
    file has the 1000 classes of ImageNet and is not loaded. G = T = F: one class token per frame.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    foreign = ("head.",)
    by_frame = True
    pool_kernel = (1, 3, 3)
    key_stride = 4


class _Patches(nn.Module):
    """Map clips (M, 3, F, H, W) to patches (M, T, H / 4, W / 4, 96), rounded up: T = F / 2, or F frame by frame."""

    def __init__(self, *, by_frame: bool) -> None:
        super().__init__()
        self.by_frame = by_frame
        self.patch_model: nn.Module
        if by_frame:
            self.patch_model = nn.Conv2d(3, HEAD_WIDTH, 7, stride=PATCH_STRIDE, padding=3)
        else:
            strides = (2, PATCH_STRIDE, PATCH_STRIDE)
            self.patch_model = nn.Conv3d(3, HEAD_WIDTH, (3, 7, 7), stride=strides, padding=(1, 3, 3))

    def forward(self, clips: Tensor) -> Tensor:
        if not self.by_frame:
            patches: Tensor = self.patch_model(clips)
            return patches.permute(0, 2, 3, 4, 1)
        frames = clips.transpose(1, 2)
        patches = self.patch_model(frames.flatten(0, 1)).permute(0, 2, 3, 1)
        return patches.reshape(*frames.shape[:2], *patches.shape[1:])


class _Positions(nn.Module):
    """Class tokens, and positions as the sum of a spatial and a temporal table."""

    def __init__(self, *, frames: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, HEAD_WIDTH))
        self.pos_embed_spatial = nn.Parameter(torch.zeros(1, TABLE_SIZE**2, HEAD_WIDTH))
        self.pos_embed_temporal = nn.Parameter(torch.zeros(1, frames, HEAD_WIDTH))
        self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, HEAD_WIDTH))

    def forward(self, grid: Tensor, *, groups: int) -> tuple[Tensor, Tensor]:
        """From (M, T, H, W, C) to class tokens (M, groups, C) and the grid plus positions, the same in every group."""
        M, T, H, W, _ = grid.shape
        spatial = self.pos_embed_spatial.transpose(1, 2).reshape(1, -1, TABLE_SIZE, TABLE_SIZE)
        if (H, W) != (TABLE_SIZE, TABLE_SIZE):
            spatial = functional.interpolate(spatial, (H, W), mode="bilinear", align_corners=False)
        temporal = self.pos_embed_temporal.transpose(1, 2)
        if T // groups != temporal.shape[2]:
            temporal = functional.interpolate(temporal, T // groups, mode="linear", align_corners=False)
        positions = spatial.permute(0, 2, 3, 1)[:, None] + temporal.transpose(1, 2)[:, :, None, None]
        cls = (self.cls_token + self.pos_embed_class).expand(M, groups, -1)
        return cls, grid + positions


def _through(block: nn.Module, hidden: Hidden) -> Hidden:
    """Apply a block to the hidden state, with groups as separate rows."""
    cls, grid = hidden
    M, T, H, W, C = grid.shape
    G = cls.shape[1]
    tokens = torch.cat([cls.reshape(M * G, 1, C), grid.reshape(M * G, -1, C)], 1)
    tokens, (t, h, w) = block(tokens, (T // G, H, W))
    return tokens[:, 0].unflatten(0, (M, G)), tokens[:, 1:].reshape(M, G * t, h, w, -1)


class _Block(nn.Module):
    """Attention over pooled grids, then an MLP; the MLP changes the token size, the attention the grid."""

    def __init__(self, heads: int, *, width_out: int, kernel: Grid, query_stride: int, key_stride: int) -> None:
        super().__init__()
        width = HEAD_WIDTH * heads
        self.query_stride = query_stride
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(heads, kernel=kernel, query_stride=query_stride, key_stride=key_stride)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _MLP(width, width_out)
        self.proj = nn.Linear(width, width_out) if width != width_out else None

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Map (B, 1 + T * H * W, C) and (T, H, W) to the tokens and the shape of the pooled grid."""
        attended, pooled_grid = self.attn(self.norm1(tokens), grid)
        if self.query_stride > 1:
            tokens = _pool_by_maximum(tokens, grid, self.query_stride)
        tokens = tokens + attended
        normalised = self.norm2(tokens)
        kept = tokens if self.proj is None else self.proj(normalised)
        return kept + self.mlp(normalised), pooled_grid


def _pool_by_maximum(tokens: Tensor, grid: Grid, stride: int) -> Tensor:
    B, _, C = tokens.shape
    frames = tokens[:, 1:].reshape(B * grid[0], *grid[1:], C).permute(0, 3, 1, 2)  # channels-last
    pooled = functional.max_pool2d(frames, stride + 1, stride, padding=(stride + 1) // 2)
    return torch.cat([tokens[:, :1], pooled.permute(0, 2, 3, 1).reshape(B, -1, C)], 1)


class _Attention(nn.Module):
    """Attention with queries and keys pooled by depthwise convolutions over the grid, shared by all heads."""

    def __init__(self, heads: int, *, kernel: Grid, query_stride: int, key_stride: int) -> None:
        super().__init__()
        width = HEAD_WIDTH * heads
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        pools_queries = query_stride > 1
        self.pool_q = DepthwiseConv3d(HEAD_WIDTH, kernel, spatial_stride=query_stride) if pools_queries else None
        self.norm_q = nn.LayerNorm(HEAD_WIDTH) if pools_queries else None
        self.pool_k = DepthwiseConv3d(HEAD_WIDTH, kernel, spatial_stride=key_stride)
        self.norm_k = nn.LayerNorm(HEAD_WIDTH)
        self.pool_v = DepthwiseConv3d(HEAD_WIDTH, kernel, spatial_stride=key_stride)
        self.norm_v = nn.LayerNorm(HEAD_WIDTH)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Map (B, 1 + T * H * W, C) and (T, H, W) to the attention output and the grid of the pooled queries."""
        queries, keys, values = (
            layer(tokens).unflatten(2, (self.heads, HEAD_WIDTH)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        keys, _ = _pool_by_convolution(keys, grid, self.pool_k, self.norm_k)
        values, _ = _pool_by_convolution(values, grid, self.pool_v, self.norm_v)
        if self.pool_q is not None:
            queries, grid = _pool_by_convolution(queries, grid, self.pool_q, self.norm_q)
        found = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(found.transpose(1, 2).flatten(2)), grid


def _pool_by_convolution(heads: Tensor, grid: Grid, pool: nn.Module, norm: nn.Module | None) -> tuple[Tensor, Grid]:
    """Map (B, heads, 1 + T * H * W, C) to the same on a coarser grid, normalised; the class token is not pooled."""
    assert norm is not None
    B, H, _, C = heads.shape
    cells = heads[:, :, 1:].reshape(B * H, *grid, C).permute(0, 4, 1, 2, 3)  # channels-last
    pooled: Tensor = pool(cells).permute(0, 2, 3, 4, 1)
    tokens = torch.cat([heads[:, :, :1], pooled.reshape(B, H, -1, C)], 2)
    return norm(tokens), (pooled.shape[1], pooled.shape[2], pooled.shape[3])


class _MLP(nn.Module):
    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width_out)

    def forward(self, tokens: Tensor) -> Tensor:
        widened: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return widened


class _Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(HEAD_DROPOUT)
        self.proj: nn.Module = nn.Linear(width, KINETICS_CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.proj(self.dropout(features))
        return logits


MVIT_NETWORKS = {
    "mvit_b_16": VideoNetwork(
        partial(FrameMViT, frames=1), zoo("MVIT_B_16_f292487636", "imagenet"), frames=1, size=224
    ),
    "mvit_b_16x4": VideoNetwork(partial(MViT, frames=16), zoo("MVIT_B_16x4"), frames=16, size=224),
    "mvit_b_32x3": VideoNetwork(partial(MViT, frames=32), zoo("MVIT_B_32x3_f294077834"), frames=32, size=224),
}

"""The paper's table of costs (Table 9 of arXiv 2309.15379), counted from this package's networks.

``#Param.`` is the number of trained parameters: the last stages ("top1") and the classifier of 400 classes of a
network, the projection to 512, SASRec with L = 10 and two blocks, and an id table that the original code creates for
every encoder and never uses. VideoMAE has no classifier, and in R3D-r18 the projection replaces it. ``FLOPs`` is the
number of multiply-adds of a forward pass of the encoder over the batch of one GPU, eleven videos per user. Both values
of the row MViT-B-16x4 are those of the image network MViT-B-16, which the original code uses under that name.
"""

from dataclasses import dataclass

import torch
from torch import nn

from microlens.cost.counting import multiply_adds
from microlens.cost.towers import build_tower, random_items
from microlens.encoders import CONTENT_ENCODERS
from microlens.encoders.content import Head
from microlens.encoders.id import IdEncoder
from microlens.encoders.tuning import Tuning
from microlens.recommenders.sasrec import SASRec

CLIP_SHAPE = (5, 224)
VIDEOS_A_USER = 11
HISTORY_LENGTH = 10
DIM, ID_DIM = 512, 2048
# Of MicroLens-100K's 19,738 items, those left after truncating histories, plus padding: every row of the table
# rounds to the printed number for 19,669 to 19,672 rows and for no other number nearby.
TABLE_ROWS = 19_670
# The paper's row, our network, the input of the projection, and users per GPU (from comments in the original code).
ROWS: tuple[tuple[str, str, Head, int], ...] = (
    ("R3D-r18", "r3d_r18", "features", 32),
    ("X3D-xs", "x3d_xs", "kinetics", 110),
    ("C2D-r50", "c2d_r50", "kinetics", 45),
    ("I3D-r50", "i3d_r50", "kinetics", 45),
    ("X3D-s", "x3d_s", "kinetics", 110),
    ("Slow-r50", "slow_r50", "kinetics", 45),
    ("X3D-m", "x3d_m", "kinetics", 110),
    ("R3D-r50", "r3d_r50", "kinetics", 70),
    ("SlowFast-r50", "slowfast_r50", "kinetics", 120),
    ("CSN-r101", "csn_r101", "kinetics", 45),
    ("X3D-l", "x3d_l", "kinetics", 90),
    ("SlowFast-r101", "slowfast_r101", "kinetics", 120),
    ("MViT-B-16x4", "mvit_b_16", "kinetics", 30),
    ("MViT-B-32x3", "mvit_b_32x3", "kinetics", 30),
    ("VideoMAE", "videomae", "features", 45),
)


@dataclass(frozen=True, kw_only=True)
class PaperCost:
    """A row counted from our network: trained parameters, and multiply-adds of a batch (None for ids)."""

    row: str
    parameters: int
    multiply_adds: int | None


def id_row() -> PaperCost:
    """SASRec over ids, D = 2048."""
    with torch.device("meta"):
        encoder = IdEncoder(num_items=TABLE_ROWS - 1, dim=ID_DIM)
        model = SASRec(item_encoder=encoder, dim=ID_DIM, history_length=HISTORY_LENGTH)
    return PaperCost(row="ID embedding", parameters=trained(model), multiply_adds=None)


def video_row(row: str, network: str, head: Head, users: int) -> PaperCost:
    """SASRec over a network, D = 512, with its top stages trained.

    Raises:
        InputError: a library that the network needs is not installed.
    """
    with torch.device("meta"):
        encoder = CONTENT_ENCODERS[network](dim=DIM, tuning=Tuning(tune="top1"), head=head)
        model = SASRec(item_encoder=encoder, dim=DIM, history_length=HISTORY_LENGTH)
        tower = build_tower(network, Tuning(tune="top1"), CLIP_SHAPE)
    counted, _ = multiply_adds(tower, tower.content(random_items(tower, CLIP_SHAPE, 1).to(torch.device("meta"))))
    return PaperCost(
        row=row,
        parameters=trained(model) + DIM * TABLE_ROWS,
        multiply_adds=(counted.frozen + counted.forward) * users * VIDEOS_A_USER,
    )


def trained(model: nn.Module) -> int:
    """The number of trained parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def table_9() -> list[PaperCost]:
    """All 16 rows of the table.

    Raises:
        InputError: a library that a network needs is not installed.
    """
    return [id_row(), *(video_row(*row) for row in ROWS)]

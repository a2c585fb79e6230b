"""What the original code's scripts write into their LMDB files and read from them, step by step."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

SIZE = 224
IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)[..., None, None]


class LMDB_Image:  # noqa: N801 - the name in the pickles
    def __init__(self, image: NDArray[Any]) -> None:
        self.image = image.tobytes()


class LMDB_VIDEO:  # noqa: N801
    def __init__(self, video: NDArray[Any]) -> None:
        self.video = video.tobytes()


def to_tensor(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As torchvision's ToTensor: (H, W, 3) to (3, H, W) in [0, 1]."""
    return image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def cover_value(image: NDArray[np.uint8]) -> LMDB_Image:
    return LMDB_Image((to_tensor(image) - np.float32(0.5)) / np.float32(0.5))


def frames_value(images: NDArray[np.uint8]) -> LMDB_VIDEO:
    """Frames normalised by the feature extractor."""
    return LMDB_VIDEO(np.stack([(to_tensor(image) - IMAGENET[0]) / IMAGENET[1] for image in images]))


def folded_frames(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the feature extractor makes of pixels that were normalised before: it converts them to bytes again."""
    normalised = (images.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return (normalised * 255).astype(np.int64).astype(np.uint8)


def read_value(record: Any) -> NDArray[np.float32]:
    """As the original data set does: (F, 3, 224, 224), or (3, 224, 224) of a cover."""
    if isinstance(record, LMDB_Image):
        return np.frombuffer(record.image, dtype=np.float32).reshape(3, SIZE, SIZE)
    return np.frombuffer(record.video, dtype=np.float32).reshape(-1, 3, SIZE, SIZE)


def write_lmdb(path: Path, values: Mapping[int, object]) -> Path:
    """A file as the original scripts write it; bytes are written as they are."""
    with lmdb.open(str(path), subdir=False, map_size=1 << 30, meminit=False, map_async=True) as environment:
        with environment.begin(write=True) as transaction:
            for item, value in values.items():
                pickled = value if isinstance(value, bytes) else pickle.dumps(value)
                transaction.put(str(item).encode("ascii"), pickled)
        keys = [str(key).encode("ascii") for key in range(len(values))]
        with environment.begin(write=True) as transaction:
            transaction.put(b"__keys__", pickle.dumps(keys))
            transaction.put(b"__len__", pickle.dumps(len(keys)))
    return path

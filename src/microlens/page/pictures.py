"""Small pictures of items."""

import av
import numpy as np
import simplejpeg

from microlens.data.dataset import Dataset
from microlens.media.store import Store, read_images

_LONGER_SIDE = 128
_JPEG_QUALITY = 80


class Pictures:
    """Small JPEG pictures of items: the cover, or else the middle frame of the clip, in the video's aspect ratio.

    Args:
        dataset: dataset with covers and clips, both optional.
    """

    def __init__(self, dataset: Dataset) -> None:
        paths = [dataset.folder / f"{kind}.lmdb" for kind in ("covers", "clips")]
        self._stores = [Store.open(path) for path in paths if path.exists()]
        self._dataset = dataset
        self._keys = dataset.interactions.item_ids
        self._sizes: list[tuple[int | None, int | None]] = dataset.items["width", "height"].rows()

    def jpeg(self, number: int) -> bytes | None:
        """The picture of the dataset's item ``number``, its longer side 128 pixels, or None where there is none.

        Raises:
            InputError: the stored picture is damaged.
        """
        key = int(self._keys[number])
        store = next((store for store in self._stores if key in store), None)
        if store is None:
            return None
        images = read_images(store, [key], name_of=self._dataset.item_id)[0]
        width, height = self._sizes[number - 1]
        image = images[len(images) // 2]
        resized = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
            *_fitted(width or image.shape[1], height or image.shape[0]), format="rgb24", interpolation="AREA"
        )
        pixels = np.ascontiguousarray(resized.to_ndarray())
        coded: bytes = simplejpeg.encode_jpeg(pixels, _JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
        return coded


def _fitted(width: int, height: int) -> tuple[int, int]:
    """Width and height with the same aspect ratio and a longer side of ``_LONGER_SIDE``."""
    scale = _LONGER_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))

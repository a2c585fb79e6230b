"""Damaged LMDB files and damaged values in them."""

from pathlib import Path

import numpy as np

from microlens.media.array_packing import pack_array, unpack_array
from microlens.media.packing import pack_images, unpack_images
from microlens.media.store import Store, StoreWriter, read_images
from tests.fuzz.mutations import Random, damage
from tests.fuzz.target import Target

ITEMS = 40
TOKENS = [
    b"MLJ1",
    b"MLU1",
    b"\xff\xd8\xff",
    b"\xff\xd9",
    b"\xff\xc0\x00\x11\x08",
    b"\xde\xc0\xef\xbe",
    b"\x01\x00\x00\x00",
]


class Stores(Target):
    """A store of pictures and one of arrays; either the file is damaged or a value."""

    name = "stores"

    def prepare(self, folder: Path) -> None:
        """Write both."""
        noise = np.random.default_rng(0)
        with StoreWriter(folder / "images.lmdb") as images, StoreWriter(folder / "arrays.lmdb") as arrays:
            for item in range(1, ITEMS + 1):
                images.put(item, pack_images(noise.integers(0, 256, (2, 16, 16, 3), np.uint8)))
                arrays.put(item, pack_array(noise.integers(0, 256, (5, int(noise.integers(1, 2000))), np.uint8)))

    def make(self, folder: Path, random: Random) -> str:
        """Damage one of four things."""
        kind = ("images", "arrays")[int(random.integers(2))]
        data = (self.seeds / f"{kind}.lmdb").read_bytes()
        if random.random() < 0.5:
            (folder / f"{kind}.lmdb").write_bytes(damage_pages(data, random))
            return f"the file of {kind}"
        value = Store.open(self.seeds / f"{kind}.lmdb").get(int(random.integers(1, ITEMS + 1)))
        assert value is not None
        (folder / f"{kind}.value").write_bytes(damage(value, random, tokens=TOKENS))
        return f"a value of {kind}"

    def read(self, folder: Path, random: Random) -> str | None:
        """All items, or the value."""
        (path,) = folder.iterdir()
        if path.suffix == ".value":
            unpacked = (unpack_images if path.stem == "images" else unpack_array)(path.read_bytes())
            assert unpacked.dtype == np.uint8
            return None
        store = Store.open(path)
        items = store.item_ids().tolist()
        assert len(items) == len(set(items)), "an item twice"
        for item in items:
            if path.stem == "arrays" and (value := store.get(item)) is not None:
                unpack_array(value)
        if path.stem == "images" and items:
            assert read_images(store, items).shape[0] == len(items)
        assert (2**40 in store) is False


def damage_pages(data: bytes, random: Random) -> bytes:
    """Damage anywhere, or within the few words that the pages of LMDB begin with."""
    if random.random() < 0.5:
        return damage(data, random, tokens=TOKENS)
    page = 4096 * int(random.integers(len(data) // 4096))
    return (
        data[:page]
        + damage(data[page : page + 256], random, tokens=TOKENS)[:256].ljust(256, b"\0")
        + data[page + 256 :]
    )

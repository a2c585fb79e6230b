"""The SHA-256 that is computed in a thread beside."""

import random
from hashlib import sha256

from microlens.download.digest import Digest


def test_chunks_of_all_sizes_give_the_sha256_of_the_whole():
    draw = random.Random(0)
    chunks = [draw.randbytes(draw.choice([1, 1000, 131_071, 131_072, 400_000])) for _ in range(40)]
    digest = Digest()
    for chunk in chunks:
        digest.update(chunk)
    assert digest.hexdigest() == sha256(b"".join(chunks)).hexdigest()

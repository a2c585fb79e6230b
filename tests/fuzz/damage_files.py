"""Damage to one file of a folder, as it befalls files that programs wrote: bytes, arrays, JSON, tensors."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutations import Random, damage, damage_json
from tests.fuzz.text_mutations import damage_text

TEXT = (".json", ".jsonl", ".toml", ".csv", ".md")


def damage_one(folder: Path, random: Random) -> str:
    """Damage one file below ``folder``, chosen by chance; what was done to which."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != ".lock"
    )
    path = files[int(random.integers(len(files)))]
    others = [other for other in files if other.suffix == path.suffix]
    way = int(random.integers(8))
    if way == 0:
        fate = _replaced(path, others[int(random.integers(len(others)))], random)
    elif way in (1, 2, 3) and path.suffix in (".json", ".npy", ".safetensors"):
        fate = {".json": _damage_json_file, ".npy": _other_array, ".safetensors": _other_tensors}[path.suffix](
            path, random
        )
    else:
        data = path.read_bytes()
        path.write_bytes(damage_text(data, random) if path.suffix in TEXT and way > 5 else damage(data, random))
        fate = "damaged"
    return f"{path.relative_to(folder)}: {fate}"


def _replaced(path: Path, other: Path, random: Random) -> str:
    """Gone, a folder, a link, empty, unreadable, another file, a pickle."""
    fate = ("gone", "a folder", "a broken link", "a link to itself", "empty", "another", "a pickle")[
        int(random.integers(7))
    ]
    data = other.read_bytes()
    path.unlink()
    if fate == "a folder":
        path.mkdir()
    elif fate == "a broken link":
        path.symlink_to(path.with_name("nowhere"))
    elif fate == "a link to itself":
        path.symlink_to(path)
    elif fate == "empty":
        path.touch()
    elif fate == "another":
        path.write_bytes(data)
    elif fate == "a pickle":
        path.write_bytes(pickle.dumps({"a": _Loud()}))
    return fate


class _Loud:
    """Unpickling it leaves a mark that a test would see: this process would end."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (77,)


def _damage_json_file(path: Path, random: Random) -> str:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return "left as it was"
    for _ in range(int(random.integers(1, 3))):
        value = damage_json(value, random)
    path.write_text(json.dumps(value), encoding="utf-8")
    return "an entry is wrong"


def _other_array(path: Path, random: Random) -> str:
    """An array of another type, length, rank, order or range, or one of objects."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception:  # damaged already
        return "left as it was"
    kinds: tuple[Any, ...] = (np.float64, np.int8, np.uint64, ">i4", np.complex64, bool, "S4", "U2", "M8[ms]")
    flat = array.reshape(-1)
    far = array.copy()
    if far.size:
        far.reshape(-1)[int(random.integers(far.size))] = (-1, 0, 2**31 - 1, -(2**31))[int(random.integers(4))]
    forms: tuple[Any, ...] = (
        lambda: array.astype(kinds[int(random.integers(len(kinds)))]), lambda: flat[:-1], lambda: flat[:0],
        lambda: np.append(flat, flat), lambda: array[None], lambda: array[..., None], lambda: flat[::-1].copy(),
        lambda: far, lambda: np.array(5), lambda: array.astype(object), lambda: np.zeros(3, [("a", "i4")]),
        lambda: np.asfortranarray(np.outer(flat[:9], flat[:9])),
    )  # fmt: skip
    form = int(random.integers(len(forms)))
    with np.errstate(all="ignore"):
        try:
            np.save(path, forms[form](), allow_pickle=True)
        except (TypeError, ValueError, IndexError):  # what is of another rank or type already
            return "left as it was"
    return f"another array ({form})"


def _other_tensors(path: Path, random: Random) -> str:
    """A safetensors file whose header says something else, or whose numbers are none."""
    data = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    except (ValueError, struct.error):
        return "left as it was"
    fate = int(random.integers(4))
    if fate == 0 and len(body) >= 8:
        at = 4 * int(random.integers(len(body) // 4))
        body[at : at + 4] = struct.pack("<f", (np.nan, np.inf, 1e38, 0.0)[int(random.integers(4))])
    elif fate == 1:
        facts = json.loads(header.get("__metadata__", {}).get("facts", "{}"))
        header.setdefault("__metadata__", {})["facts"] = json.dumps(damage_json(facts, random))
    else:
        header = damage_json(header, random)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return f"other tensors ({fate})"


def copy(source: Path, folder: Path) -> None:
    """The healthy folder, to be damaged."""
    shutil.copytree(source, folder)

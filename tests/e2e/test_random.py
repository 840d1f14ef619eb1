# SPDX-License-Identifier: MIT
"""Random checkpoints with random options: converted, sometimes killed on the way, verified, loaded, compared.

Each seed is a case. TENSORPORT_RANDOM_SECONDS is how long new ones are tried (10; the long tier takes 300);
TENSORPORT_RANDOM_SEED tries that one alone, as a failure says.
"""

from __future__ import annotations

import os
import random
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors
from faults import Outcome, run_with
from orbax_readers import BARE, assert_tree, tree_of
from test_outputs import FLOATS, PRECISIONS, cast, restore

import tensorport
from conftest import DTYPES, REFUSED, pack_float4, random_array, run, small_floats, write_checkpoint

Array = np.ndarray[Any, Any]

SECONDS = float(os.environ.get("TENSORPORT_RANDOM_SECONDS", "10"))
SEED = os.environ.get("TENSORPORT_RANDOM_SEED")
FORMATS = ("msgpack", "safetensors", "orbax")
DTYPE_NAMES = [name for name in DTYPES if name not in REFUSED]
FLOAT_NAMES = ("F16", "BF16", "F32", "F64")
WORDS = ("w", "bias", "kernel", "0", "1", "12", "q_proj", "é模型", "with space", "quo'te", "line\n", "\u202e", "A")


@pytest.fixture(scope="module", autouse=True)
def _wide() -> Iterator[None]:
    """Orbax makes arrays in threads of its own, which a context manager would not reach."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@dataclass
class Case:
    """What is converted and how; and what must come out."""

    seed: int
    arrays: dict[str, Array]
    files: int
    pad: int | None
    format: str
    precision: str
    overflow: str
    tree: str
    wrap: str | None
    keep: set[str]
    options: list[str]
    unit: str

    def arguments(self) -> list[str]:
        words = ["--format", self.format, "--precision", self.precision, "--on-overflow", self.overflow]
        words += ["--tree", self.tree] if self.tree != "flat" else []
        words += ["--wrap", self.wrap] if self.wrap else []
        return [
            *words,
            *(word for name in sorted(self.keep) for word in ("--keep-dtype", glob_of(name))),
            *self.options,
        ]

    def expected(self) -> dict[str, Array]:
        """By ml_dtypes."""
        dtype = PRECISIONS[self.precision]
        found = {}
        for name, array in self.arrays.items():
            found[name] = array
            if dtype is not None and array.dtype in FLOATS and name not in self.keep:
                found[name] = (
                    saturated(array, cast(array, dtype)) if self.overflow == "saturate" else cast(array, dtype)
                )
        return found


def glob_of(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def saturated(array: Array, result: Array) -> Array:
    """Finite values that became infinite are the largest finite one instead."""
    with np.errstate(invalid="ignore"):
        over = np.isfinite(array) & np.isinf(result)
    result = result.copy()
    limit = np.asarray(jax.numpy.finfo(result.dtype).max).astype(result.dtype)
    result[over] = np.where(result[over] > 0, limit, -limit).astype(result.dtype)
    return result


def random_name(chance: random.Random, number: int) -> str:
    """No name is a part of another's path: each ends with its number."""
    words = chance.choices(WORDS, k=chance.randrange(4))
    return ".".join([*words, f"{chance.choice(WORDS[:6])}#{number}"])


def random_shape(chance: random.Random, dtype: str) -> tuple[int, ...]:
    rank = chance.choice((0, 1, 1, 2, 2, 2, 3, 4, 7))
    size = chance.choice((3, 3, 3, 12, 40)) if rank < 4 else 3
    shape = [chance.randrange(1, size + 1) for _ in range(rank)]
    if rank and chance.random() < 0.1:
        shape[chance.randrange(rank)] = 0
    if dtype == "F4":  # the file's bytes hold two each
        shape = [*shape[:-1], 2 * chance.randrange(1, 8)] if rank else [2]
    if rank == 2 and chance.random() < 0.05:
        shape = [chance.randrange(1, 700), 512]
    return tuple(shape)


def random_arrays(chance: random.Random, seed: int, any_bits: bool) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for number in range(chance.choice((1, 2, 5, 8, 8, 20, 60))):
        dtype = chance.choice(FLOAT_NAMES if chance.random() < 0.6 else DTYPE_NAMES)
        shape = random_shape(chance, dtype)
        plain = dtype in FLOAT_NAMES and not any_bits
        array = small_floats(rng, dtype, shape) if plain else random_array(rng, dtype, shape)
        if arrays and chance.random() < 0.1:
            array = chance.choice(list(arrays.values()))  # tied: the same values again
        arrays[random_name(chance, number)] = array
    return arrays


def orbax_options(chance: random.Random, names: list[str]) -> tuple[list[str], str]:
    options, unit = [], ""
    plain = all("/" not in name and "\\" not in name for name in names)
    for word, likely in (("--zarr3", 0.3), ("--no-ocdbt", 0.3 if plain else 0)):
        options += [word] if chance.random() < likely else []
    options += ["--chunk-bytes", str(chance.choice((1024, 5000, 100_000)))] if chance.random() < 0.5 else []
    if chance.random() < 0.4 and "--no-ocdbt" not in options:
        options += ["--zero-copy", "--min-chunk", str(chance.choice((0, 0, 100)))]
        options += ["--link", chance.choice(("auto", "hardlink", "symlink", "copy"))]
    if chance.random() < 0.3:
        unit = str(chance.randrange(1000))
        options += ["--step", unit]
    return options, unit


def make_case(seed: int) -> Case:
    chance = random.Random(seed)
    overflow = chance.choice(("error", "saturate", "inf"))
    arrays = random_arrays(chance, seed, overflow != "error")
    form = chance.choice(FORMATS)
    has_tree = form != "safetensors"
    options, unit = orbax_options(chance, list(arrays)) if form == "orbax" else ([], "")
    if form != "orbax" and chance.random() < 0.6:
        options += ["--shard-size", f"{chance.choice((1, 4, 30, 500))}KB"]
        options += ["--oversize", "own-shard" if form == "safetensors" else chance.choice(("split", "own-shard"))]
    for word in ("--sha256", "--skip-verify"):
        options += [word] if chance.random() < 0.2 else []
    options += ["--workers", str(chance.randrange(1, 5))]
    options += ["--max-memory", f"{chance.choice((16, 40, 300))}MB"] if chance.random() < 0.3 else []
    return Case(
        seed,
        arrays,
        chance.randrange(1, 4),
        chance.choice((None, 0, 3)),
        form,
        chance.choice(("keep", "float16", "float32", "bfloat16")),
        overflow,
        chance.choice(("flat", "nested", "lists")) if has_tree else "flat",
        chance.choice((None, None, "params", "params/params")) if has_tree else None,
        {name for name in arrays if chance.random() < 0.1 and "\n" not in name},
        options,
        unit,
    )


def convert(case: Case, source: Path, out: Path) -> list[Outcome]:
    """In one go, or killed before a random change of the disk, up to three times, and gone on from."""
    chance = random.Random(~case.seed)
    words: list[object] = ["convert", "-i", source, "-o", out, "-q", *case.arguments()]
    killed = []
    for _ in range(chance.choice((0, 0, 1, 3))):
        done = run_with(f"change:{chance.randrange(1, 60)}:kill", *words, "--resume")
        killed.append(done)
        assert done.code in (0, -9), done
        if done.code == 0:
            return killed
    again = run(*words, "--resume", code=None) if killed else run(*words)
    assert again.returncode == 0 or (killed and "its checkpoint is complete" in again.stderr), again.stderr
    return killed


def flax_reads(folder: Path, wanted: Any) -> None:
    found = restore(folder)
    flat = {"/".join(key_of(k) for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(wanted)}
    assert sorted(found) == sorted(flat)
    for name, array in flat.items():
        assert np.asarray(found[name]).reshape(array.shape).tobytes() == array.tobytes(), name
        assert found[name].dtype == array.dtype, name


def key_of(key: Any) -> str:
    return str(key.key if hasattr(key, "key") else key.idx)


def safetensors_reads(folder: Path, wanted: dict[str, Array]) -> None:
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= dict(safetensors.deserialize(file.read_bytes()))
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        data = pack_float4(array) if array.dtype == DTYPES["F4"][1] else array.tobytes()
        assert bytes(found[name]["data"]) == data, name


def check(case: Case, folder: Path) -> None:
    source = write_checkpoint(folder / "in", case.arrays, min(case.files, len(case.arrays)), pad=case.pad)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    convert(case, source, folder / "out")
    unit = folder / "out" / case.unit
    run("verify", "--model", unit)
    run("verify", "--model", unit, "--source", source)
    tree = "nested" if (case.format, case.tree) == ("msgpack", "lists") else case.tree  # Flax keeps lists as dicts
    wanted = tree_of(case.expected(), tree, case.wrap)
    assert_tree(tensorport.load(unit), wanted)
    if case.format == "orbax":
        assert_tree(BARE["standard"](unit / "default" if case.unit else unit), wanted)
    elif case.format == "safetensors":
        safetensors_reads(unit, wanted)
    else:
        flax_reads(unit, wanted)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert not list(folder.rglob("*tensorport-partial*"))


def try_seed(seed: int, folder: Path) -> None:
    case = make_case(seed)
    try:
        check(case, folder)
    except Exception:
        shapes = {name: (array.dtype.name, array.shape) for name, array in case.arrays.items()}
        pytest.fail(
            f"TENSORPORT_RANDOM_SEED={seed} is this case:\n{' '.join(case.arguments())}\n{shapes}\n"
            f"{traceback.format_exc()}",
            pytrace=False,
        )


@pytest.mark.skipif("LLVM_PROFILE_FILE" in os.environ, reason="a measured program writes files of its own as it ends")
def test_random_checkpoints_with_random_options(tmp_path: Path) -> None:
    end, tried = time.monotonic() + SECONDS, 0
    seed = int(SEED) if SEED else random.SystemRandom().randrange(1 << 32)
    while tried == 0 or (time.monotonic() < end and not SEED):
        try_seed(seed, tmp_path / str(seed))
        shutil.rmtree(tmp_path / str(seed))
        seed, tried = (seed + 1) % (1 << 32), tried + 1
    print(f"{tried} cases, the last of seed {seed - 1}")

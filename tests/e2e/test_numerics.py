# SPDX-License-Identifier: MIT
"""The casts against NumPy, ml_dtypes and JAX: values are NumPy's, the bits of NaNs are JAX's (docs/numerics.md).

The C tests prove that every CPU level gives what the scalar one gives; here that one meets the outside world, through
a small program that casts its standard input.

Environment: TENSORPORT_CAST_TABLE is that program (built from tests/kernels/cast_table.c).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES: dict[str, np.dtype[Any]] = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
BITS = {8: np.uint64, 4: np.uint32, 2: np.uint16}
MANTISSA = {"f64": 52, "f32": 23}
EXPONENT = {"f64": 11, "f32": 8}
CASTS = [(a, b) for a in DTYPES for b in ("f32", "f16", "bf16") if a != b]
LEVELS = ["scalar", "best"]


@dataclass(frozen=True)
class Stats:
    """What a kernel counts in its source."""

    min: float
    max: float
    nan: int
    inf: int
    overflow: int
    flushed: int


@pytest.fixture(scope="session")
def cast_table() -> Path:
    """The program; without it these tests fail."""
    path = os.environ.get("TENSORPORT_CAST_TABLE")
    if not path or not Path(path).exists():
        pytest.fail(f"TENSORPORT_CAST_TABLE must name the program built from tests/kernels/cast_table.c, not {path!r}")
    return Path(path)


def bits_of(array: Array) -> Array:
    """The same bytes as unsigned integers."""
    return array.view(BITS[array.dtype.itemsize])


def is_finite(array: Array) -> Array:
    """Neither NaN nor infinite, for any kind; shape of `array`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(array.astype(np.float64)))


def hard_values(kind: str) -> Array:
    """(n,) values of a kind: all of a 16-bit one; of a wider one each sign and exponent with mantissas at and beside
    ties, and random bits."""
    dtype = DTYPES[kind]
    bits = BITS[dtype.itemsize]
    if dtype.itemsize == 2:
        return np.arange(1 << 16, dtype=bits).view(dtype)
    rng = np.random.default_rng(20240229)
    size = MANTISSA[kind]
    mantissas = {0, 1, (1 << size) - 1}
    for drop in (13, 16, 24, 29, 36, 42, 45):  # differences of mantissas, and what f16's subnormals lose besides
        if drop < size:
            half, unit = 1 << (drop - 1), 1 << drop
            bases = (0, unit, -unit, -2 * unit, unit * int(rng.integers(1 << (size - drop))))
            near = (-1, 0, 1, half >> 1, -(half >> 1))
            mantissas |= {(base + half + d) % (1 << size) for base in bases for d in near}
    heads = np.arange(1 << (1 + EXPONENT[kind]), dtype=bits) << bits(size)
    grid = heads[:, None] | np.array(sorted(mantissas), dtype=bits)[None, :]
    spread = np.arange(1 << 16, dtype=bits) * bits(65537 if dtype.itemsize == 4 else 65537 << 32 | 12345)
    anything = rng.integers(0, 1 << (8 * dtype.itemsize), 1 << 16, bits)
    return np.concatenate([grid.reshape(-1), spread, anything]).view(dtype)


def ordinary_values(kind: str) -> Array:
    """(3000,) values like weights, none strange."""
    rng = np.random.default_rng(7)
    return (rng.standard_normal(3000) * 0.02).astype(DTYPES[kind])


def run_kernel(
    program: Path, source: Array, kind: str, to: str, level: str, *, saturate: bool = False
) -> tuple[bytes, Stats]:
    """Cast (or, to="measure", look at) an array with the C kernels."""
    command = [str(program), kind, to, level, "1" if saturate else "0"]
    done = subprocess.run(command, input=source.tobytes(), capture_output=True, check=True)
    low, high, *counts = done.stderr.split()
    return done.stdout, Stats(float.fromhex(low.decode()), float.fromhex(high.decode()), *map(int, counts))


def numpy_cast(source: Array, to: str) -> Array:
    """Values as NumPy and ml_dtypes give them."""
    with np.errstate(all="ignore"):
        if source.dtype == np.float64 and to == "bf16":
            source = source.astype(np.float32)
        return source.astype(DTYPES[to])


def jax_cast(source: Array, to: str) -> Array:
    """The same by JAX, with 64-bit floats allowed. To f16 by way of f32: from f64 directly, NaNs lose their payload."""
    with jax.enable_x64(True):
        array = jnp.asarray(source)
        if source.dtype == np.float64 and to == "f16":
            array = array.astype(jnp.float32)
        return np.asarray(array.astype(DTYPES[to]))


def expected_cast(source: Array, to: str, *, saturate: bool) -> tuple[Array, Stats]:
    """Bits and statistics by the rule: NumPy's values, JAX's NaNs."""
    result = numpy_cast(source, to)
    with np.errstate(invalid="ignore"):
        nan = np.isnan(source)
        result[nan] = jax_cast(source[nan], to)
        finite = is_finite(source)
        overflowed = finite & ~is_finite(result)
        flushed = finite & (source != 0) & (result == 0)
    if saturate:
        largest = ml_dtypes.finfo(DTYPES[to]).max
        result[overflowed] = np.where(np.signbit(source[overflowed]), -largest, largest).astype(DTYPES[to])
    return bits_of(result), expected_stats(source, int(overflowed.sum()), int(flushed.sum()))


def expected_stats(source: Array, overflow: int = 0, flushed: int = 0) -> Stats:
    """Minimum and maximum of the finite values, -0 counted as 0."""
    with np.errstate(invalid="ignore"):
        finite = is_finite(source)
        nan = int(np.isnan(source).sum())
    values = source[finite].astype(np.float64)
    low = float(values.min()) if len(values) else np.inf
    high = float(values.max()) if len(values) else -np.inf
    return Stats(low or 0.0, high or 0.0, nan, len(source) - len(values) - nan, overflow, flushed)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("saturate", [False, True], ids=["inf", "saturate"])
@pytest.mark.parametrize(("kind", "to"), CASTS, ids=[f"{a}-{b}" for a, b in CASTS])
def test_hard_values_are_cast_as_numpy_and_jax_do(
    cast_table: Path, kind: str, to: str, saturate: bool, level: str
) -> None:
    """Bit for bit, and counted."""
    source = hard_values(kind)
    data, stats = run_kernel(cast_table, source, kind, to, level, saturate=saturate)
    got: Array = np.frombuffer(data, BITS[DTYPES[to].itemsize])
    expected, expected_counts = expected_cast(source, to, saturate=saturate)
    wrong = np.flatnonzero(got != expected)
    assert not len(wrong), (
        f"{len(wrong)} of {len(source)} differ, first {int(bits_of(source)[wrong[0]]):x}: "
        f"{int(got[wrong[0]]):x}, expected {int(expected[wrong[0]]):x}"
    )
    assert stats == expected_counts


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("kind", "to"), CASTS, ids=[f"{a}-{b}" for a, b in CASTS])
def test_weights_are_cast_as_numpy_and_jax_do(cast_table: Path, kind: str, to: str, level: str) -> None:
    """The path without strange values; and here NumPy and JAX agree, but for f64 to f16, which JAX rounds twice."""
    source = ordinary_values(kind)
    data, stats = run_kernel(cast_table, source, kind, to, level)
    assert data == numpy_cast(source, to).tobytes()
    assert (kind, to) == ("f64", "f16") or data == jax_cast(source, to).tobytes()
    assert stats == expected_cast(source, to, saturate=False)[1]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", DTYPES)
def test_measuring_counts_what_numpy_counts(cast_table: Path, kind: str, level: str) -> None:
    """Of hard values, of weights, of zeros with both signs, of nothing finite, of nothing."""
    zeros = np.array([-0.0, 0.0, -0.0], DTYPES[kind])
    strange = np.array([np.nan, np.inf, -np.inf, np.nan], DTYPES[kind])
    for source in (hard_values(kind), ordinary_values(kind), zeros, strange, strange[:0]):
        assert run_kernel(cast_table, source, kind, "measure", level) == (b"", expected_stats(source))


def test_a_tie_of_f64_is_rounded_once_to_f16(cast_table: Path) -> None:
    """Where the way through f32 would round twice: just above the middle of two neighbours."""
    source = np.array([1 + 2**-11 + 2**-40, 1 + 2**-11, 1 + 2**-11 - 2**-40])
    data, _ = run_kernel(cast_table, source, "f64", "f16", "best")
    assert np.frombuffer(data, np.uint16).tolist() == [0x3C01, 0x3C00, 0x3C00]

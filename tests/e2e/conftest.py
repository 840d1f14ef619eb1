# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: writing safetensors files of any kind, and running the command.

Environment: TENSORPORT_BIN is the command (default: build/tensorport of this checkout).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

# Before JAX starts: a CPU that pretends to be eight devices, for the tests of shardings.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).resolve().parents[2]

# The 22 dtypes of safetensors, with their bits and what NumPy calls their elements.
DTYPES: dict[str, tuple[int, np.dtype[Any]]] = {
    "BOOL": (8, np.dtype(bool)),
    "F4": (4, np.dtype(ml_dtypes.float4_e2m1fn)),
    "F6_E2M3": (6, np.dtype(ml_dtypes.float6_e2m3fn)),
    "F6_E3M2": (6, np.dtype(ml_dtypes.float6_e3m2fn)),
    "U8": (8, np.dtype(np.uint8)),
    "I8": (8, np.dtype(np.int8)),
    "F8_E5M2": (8, np.dtype(ml_dtypes.float8_e5m2)),
    "F8_E4M3": (8, np.dtype(ml_dtypes.float8_e4m3fn)),
    "F8_E8M0": (8, np.dtype(ml_dtypes.float8_e8m0fnu)),
    "F8_E4M3FNUZ": (8, np.dtype(ml_dtypes.float8_e4m3fnuz)),
    "F8_E5M2FNUZ": (8, np.dtype(ml_dtypes.float8_e5m2fnuz)),
    "I16": (16, np.dtype(np.int16)),
    "U16": (16, np.dtype(np.uint16)),
    "F16": (16, np.dtype(np.float16)),
    "BF16": (16, np.dtype(ml_dtypes.bfloat16)),
    "I32": (32, np.dtype(np.int32)),
    "U32": (32, np.dtype(np.uint32)),
    "F32": (32, np.dtype(np.float32)),
    "C64": (64, np.dtype(np.complex64)),
    "F64": (64, np.dtype(np.float64)),
    "I64": (64, np.dtype(np.int64)),
    "U64": (64, np.dtype(np.uint64)),
}
SAFETENSORS_NAMES = {dtype: name for name, (_, dtype) in DTYPES.items()}
REFUSED = ("F6_E2M3", "F6_E3M2")


@dataclass(frozen=True)
class Raw:
    """A tensor given as its bytes, which need not make sense. `data` None: zeros, as a hole in a sparse file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * DTYPES[self.dtype][0] // 8 if self.data is None else len(self.data)


Tensors = Mapping[str, "Raw | np.ndarray[Any, Any]"]


def pack_float4(array: np.ndarray[Any, Any]) -> bytes:
    """One code a byte to two a byte, the low nibble first, as safetensors stores F4."""
    codes = array.reshape(-1).view(np.uint8) & 15
    return (codes[0::2] | codes[1::2] << 4).tobytes()


def as_raw(array: Raw | np.ndarray[Any, Any]) -> Raw:
    """A NumPy array as safetensors would store it."""
    if isinstance(array, Raw):
        return array
    name = SAFETENSORS_NAMES[array.dtype]
    data = pack_float4(array) if name == "F4" else np.ascontiguousarray(array).tobytes()
    return Raw(name, array.shape, data)


def write_safetensors(
    path: Path, tensors: Tensors, *, metadata: dict[str, str] | None = None, pad: int | None = None
) -> Path:
    """Write one file, tensors in the order given.

    `pad`: blanks after the header; None aligns the data to 8 bytes as the reference writer does.
    """
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    raws = {name: as_raw(array) for name, array in tensors.items()}
    end = 0
    for name, raw in raws.items():
        header[name] = {"dtype": raw.dtype, "shape": list(raw.shape), "data_offsets": [end, end + raw.size]}
        end += raw.size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 if pad is None else pad)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for raw in raws.values():
            if raw.data is None:
                file.seek(raw.size, os.SEEK_CUR)
            else:
                file.write(raw.data)
        file.truncate(8 + len(text) + end)
    return path


def write_checkpoint(folder: Path, tensors: Tensors, files: int = 1, *, pad: int | None = None) -> Path:
    """Write a checkpoint folder: model.safetensors, or `files` numbered ones and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    if files == 1:
        write_safetensors(folder / "model.safetensors", tensors, pad=pad, metadata={"format": "pt"})
        return folder
    names = list(tensors)
    weight_map = {}
    for number in range(files):
        name = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        part = {key: tensors[key] for key in names[number::files]}
        write_safetensors(folder / name, part, pad=pad)
        weight_map |= dict.fromkeys(part, name)
    total = sum(as_raw(array).size for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


def random_array(rng: np.random.Generator, name: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Any bit patterns that the dtype can have: NaN payloads, infinities and subnormals included."""
    dtype = DTYPES[name][1]
    data = rng.integers(0, 256, prod(shape) * dtype.itemsize, np.uint8)
    limit = {"BOOL": 1, "F4": 15}.get(name)
    return (data if limit is None else data & limit).view(dtype).reshape(shape)


def small_floats(rng: np.random.Generator, name: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Values as weights have them: they fit float16."""
    return rng.standard_normal(tuple(shape)).astype(DTYPES[name][1])


def command_path() -> Path:
    """Where the command is; the test fails if it is nowhere."""
    path = Path(os.environ.get("TENSORPORT_BIN") or ROOT / "build" / "tensorport")
    if not path.exists():
        pytest.fail(f"no command at {path}: build it, or set TENSORPORT_BIN")
    return path.resolve()


def run(*arguments: object, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command and check its exit code; None accepts any."""
    command = [str(command_path()), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=600, **options
    )
    if code is not None and done.returncode != code:
        pytest.fail(
            f"exit code {done.returncode}, expected {code}: {' '.join(command)}\n"
            f"stdout: {done.stdout[-4000:]}\nstderr: {done.stderr[-4000:]}"
        )
    return done


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its name within it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20260711)


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Path]:
    """Converts `source` with the arguments given, to a new folder for each call, which it returns."""
    made = []

    def call(source: Path, *arguments: object) -> Path:
        made.append(tmp_path / f"out-{len(made)}")
        run("convert", "-i", source, "-o", made[-1], *arguments)
        return made[-1]

    return call

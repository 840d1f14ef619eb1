# SPDX-License-Identifier: MIT
"""What a preset makes of a checkpoint: by the command, which must agree with the oracle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from map_language import MapError
from oracle import Result, apply
from safetensors.numpy import load_file

import tensorport

ROOT = Path(__file__).resolve().parents[2]
MAPS = ROOT / "maps"

Array = np.ndarray[Any, Any]
Converted = dict[tuple[str, ...], Array]

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def decoded_mxfp4(blocks: Array, scales: Array, positive_zero: bool) -> Array:
    """The weights of experts, [experts, in, out]: low nibble first, scale 2^(s - 127), bfloat16."""
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(*blocks.shape[:-1], -1)
    table = np.where(FP4 == 0, 0, FP4) if positive_zero else FP4
    values = np.ldexp(table[codes], scales[..., None].astype(np.int32) - 127)
    values = values.reshape(*blocks.shape[:-2], -1).astype(ml_dtypes.bfloat16)
    return np.ascontiguousarray(values.swapaxes(-1, -2))


def read_checkpoint(folder: Path) -> dict[str, Array]:
    """All tensors of a folder, as they are stored."""
    tensors: dict[str, Array] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def decoded(tensors: dict[str, Array], positive_zero: bool = False) -> dict[str, Array]:
    """Each pair X_blocks, X_scales as X."""
    found = {}
    for name, array in tensors.items():
        base = name.removesuffix("_blocks")
        if base != name and base + "_scales" in tensors:
            found[base] = decoded_mxfp4(array, tensors[base + "_scales"], positive_zero)
        elif not name.endswith("_scales"):
            found[name] = array
    return found


def applied(source: Path, preset: str, precision: str | None = None) -> Result:
    """The oracle's answer, with lists and warnings."""
    body = json.loads((MAPS / f"{preset}.json").read_text())
    decode = body.get("decode", "any")
    positive_zero = isinstance(decode, dict) and bool(decode.get("positive_zero"))
    config = json.loads((source / "config.json").read_text())
    return apply(body, decoded(read_checkpoint(source), positive_zero), config, precision=precision)


def command_path() -> Path:
    """Where the command is; the test fails if it is nowhere."""
    path = Path(os.environ.get("TENSORPORT_BIN") or ROOT / "build" / "tensorport")
    if not path.exists():
        pytest.fail(f"no command at {path}: build it, or set TENSORPORT_BIN")
    return path.resolve()


def leaves_of(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Of dicts and lists in one another; the indices of lists as text."""
    if not isinstance(node, dict | list):
        yield path, np.array(node)
        return
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield from leaves_of(child, (*path, str(key)))


def run_command(source: Path, preset: str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Convert with a map."""
    command = [str(command_path()), "convert", "--map", preset, "-i", str(source), "-o", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def written(source: Path, preset: str, out: Path) -> Path:
    """What the command writes, for a program to load."""
    done = run_command(source, preset, out)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def converted(source: Path, preset: str, precision: str | None = None) -> Converted:
    """Arrays by their keys, in the order of the leaves; `precision`: what floats become, None keeps them."""
    wanted = applied(source, preset, precision).arrays
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = [] if precision is None else ["--precision", precision]
        done = run_command(source, preset, out, *options)
        assert done.returncode == 0, done.stderr[-4000:]
        found = dict(leaves_of(tensorport.load(out / "0" if (out / "0").is_dir() else out)))
    assert_same_arrays(joined(found), joined(wanted))
    return {path: found[path] for path in wanted} if order_is_free(preset) else found


def refused(source: Path, preset: str) -> set[str]:
    """The codes of what is wrong, about which the command and the oracle must agree."""
    with pytest.raises(MapError) as caught:
        applied(source, preset)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        done = run_command(source, preset, out)
        assert done.returncode == 3, done.stderr[-4000:]
        assert not out.exists()
    assert set(re.findall(r"\bE[01]\d\b", done.stderr)) == caught.value.codes, done.stderr[-4000:]
    return caught.value.codes


def order_is_free(preset: str) -> bool:
    """Are leaves found by name?"""
    return bool(json.loads((MAPS / f"{preset}.json").read_text()).get("order", "sorted") == "sorted")


def joined(arrays: Converted) -> dict[str, Array]:
    """By paths with "/" between keys."""
    return {"/".join(path): array for path, array in arrays.items()}


def nested(arrays: Converted) -> dict[str, Any]:
    """As dicts in dicts."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = array
    return tree


def assert_same_arrays(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    """Same names, dtypes, shapes and bytes."""
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        other = found[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), name
        assert np.ascontiguousarray(other).tobytes() == np.ascontiguousarray(array).tobytes(), name

# SPDX-License-Identifier: MIT
"""Random maps on random headers: the command and the oracle give the same bytes or refuse for the same reason, and what
has a way back comes back.

TENSORPORT_MAPS: how many seeds (60 in the short tier). A seed that fails is in the test's name: it is the case.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from map_language import MapError
from presets import assert_same_arrays, command_path, joined
from random_maps import Case, random_case

import tensorport

COUNT = int(os.environ.get("TENSORPORT_MAPS", "60"))
FORMATS = ("msgpack", "orbax", "jax", "safetensors")
LOSSY = {"mul", "add", "dtype", "pad"}
FLOAT_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
INT_NAMES = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64"}
NAMES = FLOAT_NAMES | INT_NAMES


def write(case: Case, folder: Path) -> None:
    """A checkpoint, by hand: empty arrays and every dtype; and the map."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in case.sources.items():
        start = len(data)
        data += np.ascontiguousarray(array).tobytes()
        dtype = NAMES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps(case.config))
    (folder.parent / "map.json").write_text(json.dumps(case.map))


def convert(folder: Path, source: str, out: str, *options: str) -> subprocess.CompletedProcess[str]:
    """By the map beside them."""
    command = [str(command_path()), "convert", "-i", str(folder / source), "-o", str(folder / out), "--quiet"]
    command += ["--map", str(folder / "map.json"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def arrays_of(folder: Path) -> dict[str, Any]:
    """All that a reader finds, as NumPy arrays."""
    with tensorport.open(folder) as checkpoint:
        return {name: np.asarray(checkpoint[name][...]) for name in checkpoint}


def expected(case: Case) -> tuple[dict[str, Any], set[str]]:
    """The oracle's arrays, or the codes of what is wrong."""
    try:
        return joined(oracle.apply(case.map, case.sources, case.config).arrays), set()
    except MapError as error:
        return {}, error.codes


@pytest.mark.parametrize("seed", range(COUNT))
def test_the_command_does_what_the_oracle_does(tmp_path: Path, seed: int) -> None:
    case, form = random_case(seed), FORMATS[seed % len(FORMATS)]
    write(case, tmp_path / "source")
    wanted, codes = expected(case)
    options = ["--format", form, "--precision", "keep", "--workers", str(1 + seed % 3)]
    done = convert(tmp_path, "source", "out", *options)
    if codes:
        assert done.returncode == 3, (case, done.stderr)
        assert "FORMAT" in codes or any(code in done.stderr for code in codes), (codes, done.stderr)
        assert not (tmp_path / "out").exists()
    elif not wanted:
        assert done.returncode in (0, 3), done.stderr  # Orbax and JAX hold no empty checkpoint
    else:
        assert done.returncode == 0, (case.map, done.stderr)
        found = {name.replace(".", "/"): array for name, array in arrays_of(tmp_path / "out").items()}
        assert_same_arrays(found, {name.replace(".", "/"): array for name, array in wanted.items()})
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("seed", range(COUNT))
def test_what_has_a_way_back_comes_back(tmp_path: Path, seed: int) -> None:
    case, form = random_case(seed), FORMATS[seed % 3]
    wanted, codes = expected(case)
    if codes or not wanted or case.spoilt:
        return  # nothing to bring back; the other test has it
    write(case, tmp_path / "source")
    done = convert(tmp_path, "source", "out", "--format", form, "--precision", "keep")
    assert done.returncode == 0, done.stderr
    back = convert(tmp_path, "out", "back", "--reverse")
    if back.returncode != 0:  # sizes that only the source told: that must be what it says
        assert back.returncode == 3, back.stderr
        assert "E07" in back.stderr, (case.map, back.stderr)
        return
    found = arrays_of(tmp_path / "back")
    assert set(found) <= set(case.sources)
    if not any(LOSSY & set(rule) for rule in case.map["rules"]):
        assert_same_arrays(found, case.sources)
    shutil.rmtree(tmp_path)

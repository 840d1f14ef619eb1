# SPDX-License-Identifier: MIT
"""How a map's arrays lie in files: what real readers get of it, and how often the source is read for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from presets import command_path
from safetensors.numpy import save_file


def write_map(folder: Path, **rule: object) -> Path:
    """A map of one rule, for the tensor x."""
    path = folder / "map.json"
    path.write_text(json.dumps({"tensorport_map": 1, "name": "x", "rules": [{"from": "x", "to": "y"} | rule]}))
    return path


@pytest.mark.parametrize("rows", [1029, 1500, 1536, 2048])
@pytest.mark.parametrize("axes", ["a b -> a b", "a b -> b a"])
def test_what_is_padded_can_be_referred_to_and_read(tmp_path: Path, axes: str, rows: int) -> None:
    """Whether the source's rows divide the padded axis or not."""
    x = np.random.default_rng(1).standard_normal((1024, 1000), dtype=np.float32)
    save_file({"x": x}, tmp_path / "model.safetensors")
    map_ = write_map(tmp_path, axes=axes, pad={"a": rows})
    words = ["-i", tmp_path / "model.safetensors", "-o", tmp_path / "out", "--format", "orbax", "--zero-copy"]
    subprocess.run([command_path(), "convert", "-q", *words, "--map", map_], check=True)
    wanted = np.pad(x, ((0, rows - 1024), (0, 0)))
    found = ocp.PyTreeCheckpointer().restore(tmp_path / "out")["y"]
    np.testing.assert_array_equal(found, wanted if axes == "a b -> a b" else wanted.T)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_what_is_transposed_is_read_once(tmp_path: Path, workers: int) -> None:
    """Chunks that come from the same rows are one worker's, however many there are."""
    x = np.random.default_rng(2).standard_normal((512, 16384), dtype=np.float32)
    save_file({"x": x}, tmp_path / "model.safetensors")
    map_ = write_map(tmp_path, axes="o i -> i o")
    words = ["-i", tmp_path / "model.safetensors", "-o", tmp_path / "out", "--format", "orbax", "--map", map_]
    words += ["--precision", "keep", "--skip-verify", "--quiet", "--workers", workers]
    command = " ".join(f"'{word}'" for word in [command_path(), "convert", *words])
    done = subprocess.run(
        ["sh", "-c", f"{command} && cat /proc/$$/io"], capture_output=True, text=True, check=True
    )  # a shell counts what its children read
    read = int(done.stdout.split("rchar: ")[1].split()[0])
    assert x.nbytes <= read < 1.1 * x.nbytes
    np.testing.assert_array_equal(ocp.PyTreeCheckpointer().restore(tmp_path / "out")["y"], x.T)

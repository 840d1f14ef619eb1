# SPDX-License-Identifier: MIT
"""How a map's arrays lie in files: what real readers get of it, and how often the source is read for it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # noqa: F401 (bfloat16, by name)
import numpy as np
import orbax.checkpoint as ocp
import pytest
from numpy.typing import NDArray
from presets import command_path
from safetensors.numpy import save_file

import tensorport


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


def convert_counted(*words: object) -> tuple[int, int]:
    """Bytes that are read and written; a shell counts what its children do."""
    command = " ".join(f"'{word}'" for word in [command_path(), "convert", "--quiet", *words])
    script = ["sh", "-c", f"{command} && cat /proc/$$/io"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    read, written = (int(done.stdout.split(f"{name}: ")[1].split()[0]) for name in ("rchar", "wchar"))
    return read, written


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_what_is_transposed_is_read_once(tmp_path: Path, workers: int) -> None:
    """Chunks that come from the same rows are one worker's, however many there are."""
    x = np.random.default_rng(2).standard_normal((512, 16384), dtype=np.float32)
    save_file({"x": x}, tmp_path / "model.safetensors")
    map_ = write_map(tmp_path, axes="o i -> i o")
    words = ["-i", tmp_path / "model.safetensors", "-o", tmp_path / "out", "--format", "orbax", "--map", map_]
    read, _ = convert_counted(*words, "--precision", "keep", "--skip-verify", "--workers", workers)
    assert x.nbytes <= read < 1.1 * x.nbytes
    np.testing.assert_array_equal(ocp.PyTreeCheckpointer().restore(tmp_path / "out")["y"], x.T)


# ---- spread: more than fits in memory, transposed, row-major ----


@dataclass(frozen=True)
class Spread:
    """A stack of transposed matrices, and the memory in which it is made."""

    layers: int
    rows: int
    columns: int
    memory: str
    precision: str = "keep"
    axes: str = "o i -> i l o"

    def write(self, folder: Path) -> NDArray[np.float32]:
        """The source, and what comes of it."""
        folder.mkdir()
        rng = np.random.default_rng(self.layers)
        x = rng.standard_normal((self.layers, self.rows, self.columns), dtype=np.float32)
        for layer in range(self.layers):
            save_file({f"x.{layer}": x[layer]}, folder / f"{layer}.safetensors")
        return x.transpose({"o i -> i l o": (2, 0, 1), "o i -> l i o": (0, 2, 1)}[self.axes])


SPREADS = [
    Spread(3, 500, 900, "14MiB"),
    Spread(7, 1000, 333, "14MiB", "bfloat16"),
    Spread(2, 900, 500, "14MiB", axes="o i -> l i o"),
    Spread(12, 1733, 1801, "24MiB"),  # 150 MB: three blocks
    Spread(40, 733, 2801, "24MiB", "float16"),  # as many
    Spread(5, 2733, 2801, "20MiB", axes="o i -> l i o"),  # blocks that begin in one layer and end in the next
]


@pytest.mark.parametrize("case", SPREADS, ids=lambda c: f"{c.layers}-{c.rows}-{c.columns}-{c.precision}")
def test_what_is_spread_is_right_and_is_checked(tmp_path: Path, case: Spread) -> None:
    wanted = case.write(tmp_path / "in").astype({"keep": np.float32}.get(case.precision, case.precision))
    map_ = write_map(tmp_path, **{"from": "x.{l}", "axes": case.axes})
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "--map", map_, "--precision", case.precision]
    _, written = convert_counted(*words, "--max-memory", case.memory)
    assert written > 1.9 * wanted.nbytes  # in two passes: it was spread
    found = tensorport.load(tmp_path / "out")["y"]
    assert np.array_equal(np.asarray(found).view(np.uint8), np.ascontiguousarray(wanted).view(np.uint8))
    verify = [command_path(), "verify", "--model", tmp_path / "out", "--max-memory", case.memory]
    subprocess.run([*verify, "--source", tmp_path / "in"], check=True, capture_output=True)

    shard = next((tmp_path / "out").glob("*.msgpack"))
    place = shard.stat().st_size // 3
    with shard.open("r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 1]))
    done = subprocess.run([*verify, "--source", tmp_path / "in"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 of " in done.stdout + done.stderr, done.stdout + done.stderr


def test_overflow_of_what_is_spread_is_counted_to_the_end(tmp_path: Path) -> None:
    """Every offending value of every array, whether one is spread or not; nothing is left but what can go on."""
    x = np.ones((3, 500, 900), np.float32)
    x[0, 0, 0] = x[1, 17, 450] = x[2, 499, 899] = 1e6
    (tmp_path / "in").mkdir()
    save_file(
        {f"x.{i}": x[i] for i in range(3)} | {"z": np.full(5, 7e5, np.float32)}, tmp_path / "in" / "x.safetensors"
    )
    rules = [{"from": "x.{l}", "to": "y", "axes": "o i -> i l o"}, {"from": "z", "to": "z"}]
    (tmp_path / "map.json").write_text(json.dumps({"tensorport_map": 1, "name": "x", "rules": rules}))
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "--map", tmp_path / "map.json", "--precision", "float16"]
    convert = [command_path(), "convert", *words, "--max-memory", "14MiB"]
    done = subprocess.run(convert, capture_output=True, text=True)
    assert done.returncode == 3
    assert "y  F32 [900, 3, 500]  3 values, up to 1e+06" in done.stderr, done.stderr
    assert "z  F32 [5]            5 values, up to 700000" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()
    told = subprocess.run([*convert, "--progress", "json"], capture_output=True, text=True)
    last = json.loads([line for line in (told.stdout + told.stderr).splitlines() if '"scan"' in line][-1])
    assert 0.99 * last["total_bytes"] < last["done_bytes"] <= last["total_bytes"], last
    subprocess.run([*convert, "-q", "--overwrite", "--on-overflow", "saturate"], check=True)
    found = np.asarray(tensorport.load(tmp_path / "out")["y"])
    assert np.array_equal(found, np.minimum(x, 65504).transpose(2, 0, 1).astype(np.float16))

# SPDX-License-Identifier: MIT
"""The example programs do what their first lines say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import checkpoints
from command import built, run


def example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of examples/."""
    command = [str(built(f"examples/{name}")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)


def test_list_tensors(tmp_path: Path) -> None:
    checkpoints.tiny(tmp_path)
    done = example("list_tensors", tmp_path)
    assert done.stdout.splitlines() == [
        "float32                    24 bytes  layer.weight [2, 3]",
        "int64                      16 bytes  position [2]",
        "bfloat16                    2 bytes  scale []",
        "9 parameters in 1 files",
    ]
    assert example("list_tensors", tmp_path / "absent").returncode == 3


def test_read_tensor(tmp_path: Path) -> None:
    checkpoints.tiny(tmp_path)
    assert (
        example("read_tensor", tmp_path, "layer.weight").stdout == "6 values, mean 0.791666667, largest magnitude 4\n"
    )
    assert example("read_tensor", tmp_path, "scale").stdout == "1 values, mean 1.5, largest magnitude 1.5\n"


def test_convert_progress(tmp_path: Path) -> None:
    checkpoints.tiny(tmp_path / "tiny")
    done = example("convert_progress", tmp_path / "tiny", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("3 arrays to 1 files, ")
    assert "convert 100 %" in lines
    assert "verify  100 %" in lines
    assert lines[-1] == f"{tmp_path / 'out' / 'manifest.json'}, verified"
    assert run("verify", tmp_path / "out", "--source", tmp_path / "tiny").returncode == 0


def test_convert_progress_names_what_overflows(tmp_path: Path) -> None:
    checkpoints.overflowing(tmp_path / "in")
    done = example("convert_progress", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 3
    assert "h.1.mlp.bias: 2 values too large, from 1 to 1e+06" in done.stderr
    assert not (tmp_path / "out").exists()

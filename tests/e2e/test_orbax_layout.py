# SPDX-License-Identifier: MIT
"""Orbax checkpoints that the layout describes, restored by Orbax: every array, byte for byte.

Environment: TENSORPORT_EMIT_ORBAX is the program built from tests/unit/emit_orbax.c.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conftest import ROOT

jax = pytest.importorskip("jax")
ocp = pytest.importorskip("orbax.checkpoint")

MODES = {
    "data": [],
    "data-zarr3": ["zarr3"],
    "data-small-chunks": ["chunk=16"],
    "data-small-chunks-zarr3": ["chunk=16", "zarr3"],
    "plain": ["no-ocdbt"],
    "plain-zarr3": ["no-ocdbt", "zarr3", "chunk=64"],
    "zero-copy": ["zero-copy", "v2-rows"],
    "zero-copy-small-chunks": ["zero-copy", "v2-rows", "chunk=16"],
    "zero-copy-zarr3": ["zero-copy"],
    "zero-copy-zarr3-small-chunks": ["zero-copy", "chunk=16"],
}


def emit(folder: Path, *options: str) -> dict[tuple[str, ...], np.ndarray]:
    """Write a checkpoint; what its leaves should be, by path."""
    path = Path(os.environ.get("TENSORPORT_EMIT_ORBAX") or ROOT / "build" / "tests" / "unit" / "emit_orbax")
    if not path.exists():
        pytest.fail(f"no program at {path}: build it, or set TENSORPORT_EMIT_ORBAX")
    folder.parent.mkdir(exist_ok=True)
    done = subprocess.run([path.resolve(), folder, *options], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    leaves = {}
    for line in Path(f"{folder}.expect").read_text().splitlines():
        key, dtype, shape, data = line.split(" ")
        keys = tuple(bytes.fromhex(key).decode().split("\0"))
        kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
        axes = [int(n) for n in shape[1:-1].split(",") if n]
        leaves[keys] = np.frombuffer(bytes.fromhex(data[1:]), kind).reshape(axes)
    Path(f"{folder}.expect").unlink()
    return leaves


def flat(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The leaves of a restored tree; an index of a list is its decimal."""
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, (list, tuple)):
        items = [(str(i), value) for i, value in enumerate(tree)]
    else:
        return {path: tree}
    return {k: v for key, value in items for k, v in flat(value, (*path, key)).items()}


def check(tree: Any, expected: dict[tuple[str, ...], np.ndarray]) -> None:
    """Same leaves, same bytes."""
    leaves = flat(tree)
    assert sorted(leaves) == sorted(expected)
    for path, want in expected.items():
        got = np.asarray(leaves[path])
        assert (got.dtype, got.shape) == (want.dtype, want.shape), path
        assert got.tobytes() == want.tobytes(), path


def nested(leaves: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """A tree of dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        level = tree
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = leaf
    return tree


@pytest.mark.parametrize("mode", MODES)
def test_every_reader_restores_every_array(tmp_path: Path, mode: str) -> None:
    expected = emit(tmp_path / "out", *MODES[mode])
    check(ocp.StandardCheckpointer().restore(tmp_path / "out"), expected)
    check(ocp.PyTreeCheckpointer().restore(tmp_path / "out"), expected)
    v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")
    check(v1.load(tmp_path / "out"), expected)


@pytest.mark.parametrize("mode", ["data-small-chunks", "plain", "zero-copy", "zero-copy-zarr3-small-chunks"])
def test_arrays_come_sharded_on_each_axis(tmp_path: Path, mode: str) -> None:
    expected = emit(tmp_path / "out", *MODES[mode])
    devices = jax.devices()[:2]
    mesh = jax.sharding.Mesh(np.array(devices), ("x",))
    for axis in range(3):
        target = {}
        for path, want in expected.items():
            divides = axis < want.ndim and want.shape[axis] % len(devices) == 0 and want.size
            spec = [None] * axis + ["x"] if divides else []
            sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
            target[path] = jax.ShapeDtypeStruct(want.shape, want.dtype, sharding=sharding)
        with jax.enable_x64(True):
            check(ocp.StandardCheckpointer().restore(tmp_path / "out", nested(target)), expected)


def test_levels_that_count_from_zero_are_lists(tmp_path: Path) -> None:
    expected = emit(tmp_path / "out", "lists")
    tree = ocp.StandardCheckpointer().restore(tmp_path / "out")
    assert isinstance(tree["layers"], list)
    assert len(tree["layers"]) == 12
    assert isinstance(tree["gaps"], dict)
    check(tree, expected)


@pytest.mark.parametrize("mode", ["data", "zero-copy"])
def test_a_step_is_found_by_the_manager(tmp_path: Path, mode: str) -> None:
    expected = emit(tmp_path / "root" / "3", "step", *MODES[mode])
    with ocp.CheckpointManager(tmp_path / "root") as manager:
        assert manager.latest_step() == 3
        check(manager.restore(3), expected)
        check(manager.restore(3, args=ocp.args.StandardRestore()), expected)
    expected = emit(tmp_path / "items" / "0", "step", "item=items", *MODES[mode])
    with ocp.CheckpointManager(tmp_path / "items", item_names=("items",)) as manager:
        check(manager.restore(0, args=ocp.args.Composite(items=ocp.args.PyTreeRestore()))["items"], expected)


def test_what_it_was_made_of_is_in_the_metadata(tmp_path: Path) -> None:
    emit(tmp_path / "out", "zero-copy", "v2-rows")
    metadata = ocp.StandardCheckpointer().metadata(tmp_path / "out")
    made_of = metadata.item_metadata.custom_metadata["tensorport"]["source"]
    assert [file["name"] for file in made_of] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert made_of[0]["header_xxh3"] == "01" + "00" * 15


def test_the_layout_of_version_1_is_loaded_by_it(tmp_path: Path) -> None:
    v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")
    expected = emit(tmp_path / "root" / "5", "v1", "zero-copy")
    check(v1.load(tmp_path / "root" / "5"), expected)
    with v1.training.Checkpointer(tmp_path / "root") as checkpointer:
        check(checkpointer.load_pytree(5), expected)


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        emit(tmp_path / name, "zero-copy", "chunk=16")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)

# SPDX-License-Identifier: MIT
"""The Python package on folders of the layout orbax, written here from docs/formats/manifest.md alone.

Chunks of any shape and order, whether or not the command writes such ones; beyond an array's edge they hold rubbish.
What the command itself writes is loaded in test_orbax.py.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from test_loader import at, bytes_read, change, drop, mesh, random_index, same, write_manifest

import tensorport
from conftest import random_array
from tensorport import reading

Array = np.ndarray[Any, Any]
DATA, SOURCE = "default/d/data-00001-of-00001", "model.safetensors"


def chunk_bytes(array: Array, chunk: tuple[int, ...], order: list[int], cell: tuple[int, ...]) -> bytes:
    """One chunk as it lies in a file, whole also where it reaches beyond the array."""
    whole = np.full(chunk, np.frombuffer(b"\xa5" * 8, array.dtype, 1)[0])
    part = array[tuple([slice(index * size, (index + 1) * size) for index, size in zip(cell, chunk, strict=True)])]
    whole[tuple([slice(size) for size in part.shape])] = part
    return whole.transpose(order).tobytes()


def write_chunked(
    folder: Path,
    arrays: dict[str, Array],
    grids: dict[str, tuple[tuple[int, ...], list[int] | None]],
    *,
    linked: bool = False,
    gap: int = 3,
    tree: str = "flat",
    tied: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A folder with one file that holds all chunks, ours or the source's. `tied`: name -> the name it is one with."""
    content, rows = bytearray(), []
    for name, array in arrays.items():
        row = {"path": name.split(".") if tree != "flat" else [name], "dtype": array.dtype.name}
        row["shape"], row["extents"] = list(array.shape), []
        chunk, order = grids.get(name, (array.shape, None))
        axes = order if order is not None else list(range(array.ndim))
        if len(chunk) < array.ndim:
            rows.append(row)
            continue
        if name in grids:
            row["chunk"] = list(chunk)
            if order is not None:
                row["order"] = order
        for cell in product(*[range(-(-size // part)) for size, part in zip(array.shape, chunk, strict=True)]):
            content += b"?" * gap
            data = chunk_bytes(array, chunk, axes, cell)
            row["extents"].append({"file": 0, "offset": len(content), "length": len(data)})
            content += data
        rows.append(row)
    for name, other in (tied or {}).items():
        rows.append(next(row for row in rows if row["path"] == [other]) | {"path": [name]})
    (folder / DATA).parent.mkdir(parents=True)
    file = {"name": SOURCE if linked else DATA, "size": len(content)} | ({"source": 0} if linked else {})
    (folder / file["name"]).write_bytes(content)
    document = {"format": "tensorport", "version": 1, "layout": "orbax", "tree": tree, "options": {"orbax": {}}}
    document |= {"files": [file], "arrays": rows}
    write_manifest(folder, document)
    return document


# Shape, chunk, order of a chunk's axes: rows, boxes, every order, chunks beyond the edge, single elements.
GRIDS: dict[str, tuple[tuple[int, ...], tuple[int, ...], list[int] | None]] = {
    "scalar": ((), (), None),
    "whole": ((6, 8), (6, 8), None),
    "rows": ((6, 8), (2, 8), None),
    "rows.over": ((7, 8), (3, 8), None),
    "columns": ((6, 8), (6, 4), None),
    "boxes": ((6, 8), (2, 4), None),
    "boxes.over": ((7, 9), (4, 2), None),
    "larger": ((3, 4), (5, 9), None),
    "elements": ((3, 4), (1, 1), None),
    "transposed": ((6, 8), (6, 8), [1, 0]),
    "transposed.rows": ((6, 8), (2, 8), [1, 0]),
    "transposed.over": ((7, 9), (4, 5), [1, 0]),
    "line.in.any.order": ((1, 8, 1), (1, 4, 1), [2, 1, 0]),
    "layers": ((3, 4, 6), (1, 2, 6), None),
    "layers.inside": ((4, 3, 6), (4, 1, 6), [2, 0, 1]),
    "layers.last": ((4, 6, 3), (4, 6, 1), [2, 1, 0]),
    "heads": ((8, 3, 4), (8, 1, 4), [1, 2, 0]),
    "four": ((3, 4, 5, 6), (2, 4, 3, 5), [2, 0, 3, 1]),
    "empty": ((0, 3), (1, 3), None),
    "empty.without.chunks": ((0, 3), (), None),
    "empty.inside": ((4, 0, 3), (2, 1, 3), [2, 1, 0]),
}
NAMES = ["BF16", "F32", "I8", "C64", "BOOL"]


@pytest.fixture
def chunked(rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays in every grid, the dtypes in turn, and the grids."""
    arrays = {}
    for number, (name, (shape, _, _)) in enumerate(GRIDS.items()):
        arrays[name] = random_array(rng, NAMES[number % len(NAMES)], shape)
    return arrays, {name: (chunk, order) for name, (_, chunk, order) in GRIDS.items()}


@pytest.mark.parametrize("gap", [0, 3, 64])
@pytest.mark.parametrize("mmap", [False, True])
def test_every_grid_is_read(tmp_path: Path, chunked: Any, gap: int, mmap: bool):
    arrays, grids = chunked
    write_chunked(tmp_path / "model", arrays, grids, gap=gap)
    loaded = tensorport.load(tmp_path / "model", mmap=mmap)
    assert list(loaded) == list(arrays)
    with tensorport.open(tmp_path / "model", mmap=mmap) as checkpoint:
        for name, array in arrays.items():
            assert same(checkpoint[name].numpy(), array), name
            assert same(checkpoint[name][...], array), name
            assert same(loaded[name], array), name


def test_slices_of_chunks_equal_numpys(
    tmp_path: Path, chunked: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "_GAP_BYTES", 8)  # so that both ways of gathering are used
    monkeypatch.setattr(reading, "_WINDOW_BYTES", 64)
    monkeypatch.setattr(reading, "_PIECE_BYTES", 48)
    monkeypatch.setattr(reading, "_PARALLEL_BYTES", 500)
    arrays, grids = chunked
    write_chunked(tmp_path / "model", arrays, grids)
    with tensorport.open(tmp_path / "model", threads=3) as checkpoint:
        for name, array in arrays.items():
            assert same(checkpoint[name].numpy(), array), name
            for _ in range(60):
                index = tuple([random_index(rng, size) if size else slice(None) for size in array.shape])
                assert same(checkpoint[name][index], array[index]), (name, index)


def test_large_chunks_in_any_order(tmp_path: Path, rng: np.random.Generator):
    """Larger than what is read at once."""
    arrays = {"a": random_array(rng, "BF16", (1500, 2100)), "b": random_array(rng, "F32", (30, 64, 1000))}
    write_chunked(tmp_path / "model", arrays, {"a": ((1500, 1050), [1, 0]), "b": ((30, 32, 1000), [2, 0, 1])})
    loaded = tensorport.load(tmp_path / "model")
    assert all(same(loaded[name], array) for name, array in arrays.items())


def test_only_the_chunks_of_a_slice_are_read(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    array = random_array(rng, "F32", (1024, 2048))
    write_chunked(tmp_path / "model", {"a": array, "t": array}, {"a": ((256, 1024), None), "t": ((1024, 256), [1, 0])})
    with tensorport.open(tmp_path / "model") as checkpoint:
        boxes, lines = checkpoint["a"], checkpoint["t"]
        assert bytes_read(lambda: boxes[256:512, 1024:], monkeypatch) == array.nbytes // 8
        assert bytes_read(lambda: boxes[300], monkeypatch) == 2048 * 4
        assert bytes_read(lambda: lines[:, 256:512], monkeypatch) == array.nbytes // 8
        assert bytes_read(lambda: lines[:, 7], monkeypatch) == 1024 * 4
        assert bytes_read(lambda: boxes[:0], monkeypatch) == 0


@pytest.mark.parametrize("spec", [PartitionSpec("x"), PartitionSpec(None, "x"), PartitionSpec("x", "y")])
def test_each_device_reads_its_chunks(
    tmp_path: Path, rng: np.random.Generator, spec: PartitionSpec, monkeypatch: pytest.MonkeyPatch
):
    arrays = {name: random_array(rng, "BF16", (512, 512)) for name in "ab"}
    grids = {"a": ((128, 256), None), "b": ((256, 128), [1, 0])}
    write_chunked(tmp_path / "model", arrays, grids)
    sharding = NamedSharding(mesh(2, 2), spec)
    loaded = {}
    read = bytes_read(lambda: loaded.update(tensorport.load(tmp_path / "model", sharding=sharding)), monkeypatch)
    assert read == sum(array.nbytes for array in arrays.values())
    for name, array in loaded.items():
        assert array.sharding == sharding
        assert same(array, arrays[name])
        assert all(same(shard.data, arrays[name][shard.index]) for shard in array.addressable_shards)


def test_neighbours_in_a_file_are_mapped_as_one(tmp_path: Path, rng: np.random.Generator):
    arrays = {"a": random_array(rng, "F16", (64, 32)), "b": random_array(rng, "F16", (64, 32))}
    write_chunked(tmp_path / "model", arrays, {"a": ((16, 32), None), "b": ((16, 16), None)}, gap=0)
    with tensorport.open(tmp_path / "model", mmap=True) as checkpoint:
        found = {name: tensor.numpy() for name, tensor in checkpoint.items()}
    assert all(same(found[name], array) for name, array in arrays.items())
    assert {name: array.flags.writeable for name, array in found.items()} == {"a": False, "b": True}


def test_tied_arrays_share_bytes_of_the_source_only(tmp_path: Path, rng: np.random.Generator):
    arrays = {"embed": random_array(rng, "BF16", (8, 4)), "norm": random_array(rng, "F32", (4,))}
    write_chunked(tmp_path / "model", arrays, {"embed": ((4, 4), None)}, linked=True, tied={"head": "embed"})
    loaded = tensorport.load(tmp_path / "model")
    assert list(loaded) == ["embed", "norm", "head"]
    assert same(loaded["head"], arrays["embed"])
    write_chunked(tmp_path / "ours", arrays, {}, tied={"head": "embed"})
    with pytest.raises(tensorport.FormatError, match="overlap those of"):
        tensorport.open(tmp_path / "ours")


def test_linked_files_may_be_links(tmp_path: Path, rng: np.random.Generator):
    arrays = {"a": random_array(rng, "BF16", (8, 4))}
    write_chunked(tmp_path / "model", arrays, {}, linked=True)
    (tmp_path / "model" / SOURCE).rename(tmp_path / "blob")
    (tmp_path / "model" / SOURCE).symlink_to(tmp_path / "blob")
    assert same(tensorport.load(tmp_path / "model")["a"], arrays["a"])


# Trees


def test_lists_come_back_as_lists(tmp_path: Path):
    names = ["layers.0.w", "layers.1.w", "layers.2.w", "odd.0", "odd.2", "zero.00", "one.0", "deep.0.0", "deep.1.x"]
    arrays = {name: np.float32([number]) for number, name in enumerate(names)}
    write_chunked(tmp_path / "model", arrays, {}, tree="lists")
    loaded = jax.tree.map(lambda array: float(array[0]), tensorport.load(tmp_path / "model"))
    assert loaded == {
        "layers": [{"w": 0.0}, {"w": 1.0}, {"w": 2.0}],
        "odd": {"0": 3.0, "2": 4.0},
        "zero": {"00": 5.0},
        "one": [6.0],
        "deep": [[7.0], {"x": 8.0}],
    }
    with tensorport.open(tmp_path / "model") as checkpoint:
        assert checkpoint.tree()["layers"][2]["w"] is checkpoint["layers", "2", "w"]
        assert checkpoint.names()[0] == "layers/0/w"
    assert tensorport.load(tmp_path / "model", names="layers/2/*")["layers"]["2"]["w"][0] == 2
    assert len(tensorport.load(tmp_path / "model", like=loaded_like(arrays, loaded))["layers"]) == 3


def loaded_like(arrays: dict[str, Array], tree: Any) -> Any:
    shape = jax.ShapeDtypeStruct(arrays["one.0"].shape, np.float32)
    return jax.tree.map(lambda _: shape, tree)


def test_a_list_may_be_the_root(tmp_path: Path):
    write_chunked(tmp_path / "model", {"1": np.int8([1]), "0": np.int8([0])}, {}, tree="lists")
    assert [int(array[0]) for array in tensorport.load(tmp_path / "model")] == [0, 1]


def test_a_flat_tree_may_be_wrapped(tmp_path: Path):
    document = write_chunked(tmp_path / "model", {"a.b": np.int8([1])}, {})
    document["arrays"][0]["path"] = ["params", "params", "a.b"]
    write_manifest(tmp_path / "model", document)
    with pytest.raises(tensorport.FormatError, match="3 keys in the path of a flat tree"):
        tensorport.open(tmp_path / "model")
    document["options"]["wrap"] = "params/params"
    write_manifest(tmp_path / "model", document)
    assert int(tensorport.load(tmp_path / "model")["params"]["params"]["a.b"][0]) == 1


# Hostile manifests

HUGE = (1 << 63) - 1
UNSOUND = {
    "chunk missing": (drop("arrays", 0, "chunk"), "'chunk' is missing"),
    "chunk text": (change("arrays", 0, "chunk", to="6"), "'chunk' is not a list"),
    "chunk rank": (change("arrays", 0, "chunk", to=[2]), "is not 2 sizes above 0"),
    "chunk rank above": (change("arrays", 0, "chunk", to=[2, 4, 1]), "is not 2 sizes above 0"),
    "chunk zero": (change("arrays", 0, "chunk", to=[0, 4]), "is not 2 sizes above 0"),
    "chunk negative": (change("arrays", 0, "chunk", to=[-2, 4]), "a size in 'chunk'"),
    "chunk true": (change("arrays", 0, "chunk", to=[True, 4]), "a size in 'chunk'"),
    "chunk 2^63": (change("arrays", 0, "chunk", to=[1 << 63, 4]), "a size in 'chunk'"),
    "chunk huge": (change("arrays", 0, "chunk", to=[HUGE, HUGE]), "6 extents, one for each of 1 chunks"),
    "chunk small": (change("arrays", 0, "chunk", to=[1, 1]), "6 extents, one for each of 48 chunks"),
    "chunk other": (change("arrays", 0, "chunk", to=[3, 3]), "16 bytes, its elements need 18"),
    "order text": (change("arrays", 0, "order", to="10"), "'order' is not a list"),
    "order short": (change("arrays", 0, "order", to=[0]), "does not list each of 2 axes once"),
    "order twice": (change("arrays", 0, "order", to=[0, 0]), "does not list each of 2 axes once"),
    "order beyond": (change("arrays", 0, "order", to=[0, 2]), "does not list each of 2 axes once"),
    "order negative": (change("arrays", 0, "order", to=[0, -1]), "an axis in 'order'"),
    "order true": (change("arrays", 0, "order", to=[0, True]), "an axis in 'order'"),
    "extent missing": (drop("arrays", 0, "extents", 5), "5 extents, one for each of 6 chunks"),
    "extent a number": (change("arrays", 0, "extents", 1, to=1), "not an object"),
    "extent elements": (change("arrays", 0, "extents", 1, "elements", to=[0, 8]), "where chunks say it all"),
    "extent order": (change("arrays", 0, "extents", 1, "order", to=[0, 1]), "where chunks say it all"),
    "extent beyond": (change("arrays", 0, "extents", 1, "offset", to=5000), "beyond the end"),
    "extent wraps": (change("arrays", 0, "extents", 1, "offset", to=HUGE), "beyond the end"),
    "extent short": (change("arrays", 0, "extents", 1, "length", to=15), "15 bytes, its elements need 16"),
    "extent in another file": (change("arrays", 0, "extents", 1, "file", to=1), "there are 1 files"),
    "chunk twice": (lambda d: d["arrays"][0]["extents"][1].update(at(d, "arrays", 0, "extents", 0)), "overlap"),
    "shape huge": (change("arrays", 0, "shape", to=[1 << 62, 8]), "2.63 bytes or more"),
    "name above": (change("files", 0, "name", to="d/../../secret"), "plain name"),
    "name here": (change("files", 0, "name", to="./d/x"), "plain name"),
    "name absolute": (change("files", 0, "name", to="/etc/passwd"), "plain name"),
    "name empty part": (change("files", 0, "name", to="d//x"), "plain name"),
    "name folder": (change("files", 0, "name", to="default/"), "plain name"),
    "name backslash": (change("files", 0, "name", to="d\\..\\x"), "plain name"),
    "name NUL": (change("files", 0, "name", to="d/a\0b"), "plain name"),
    "name surrogate": (change("files", 0, "name", to="d/\udc80"), "plain name"),
    "name below a file": (change("files", 0, "name", to=DATA + "/x"), "is missing"),
    "name a folder": (change("files", 0, "name", to="default/d"), "not a regular file"),
    "source text": (change("files", 0, "source", to="0"), "source of file"),
    "source negative": (change("files", 0, "source", to=-1), "source of file"),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_an_unsound_manifest_is_refused(tmp_path: Path, rng: np.random.Generator, fault: str):
    write_chunked(tmp_path / "m", {"a": random_array(rng, "BF16", (6, 8))}, {"a": ((2, 4), [1, 0])})
    document = json.loads((tmp_path / "m" / "manifest.json").read_text())
    apply, message = UNSOUND[fault]
    apply(document)
    write_manifest(tmp_path / "m", document)
    with pytest.raises(tensorport.FormatError, match=message) as caught:
        tensorport.load(tmp_path / "m")
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("layout", ["flax-msgpack", "safetensors"])
def test_other_layouts_have_no_chunks_and_no_folders(tmp_path: Path, layout: str):
    document = write_chunked(tmp_path / "m", {"a": np.zeros((6, 8), np.int8)}, {"a": ((6, 4), None)}, linked=True)
    document |= {"layout": layout}
    write_manifest(tmp_path / "m", document)
    with pytest.raises(tensorport.FormatError, match="source's own, which this layout does not have"):
        tensorport.open(tmp_path / "m")
    del document["files"][0]["source"]
    write_manifest(tmp_path / "m", document)
    with pytest.raises(tensorport.FormatError, match="chunks, which this layout does not have"):
        tensorport.open(tmp_path / "m")
    document["files"][0]["name"] = "default/x"
    write_manifest(tmp_path / "m", document)
    with pytest.raises(tensorport.FormatError, match="not the plain name of a file"):
        tensorport.open(tmp_path / "m")


def test_a_file_that_changed_since_is_an_error(tmp_path: Path):
    write_chunked(tmp_path / "m", {"a": np.zeros((6, 8), np.int8)}, {"a": ((6, 4), None)}, linked=True)
    with tensorport.open(tmp_path / "m") as checkpoint:
        path = tmp_path / "m" / SOURCE
        size = path.stat().st_size
        path.unlink()
        path.write_bytes(b"x" * size)
        with pytest.raises(tensorport.FormatError, match="changed since"):
            checkpoint["a"].numpy()

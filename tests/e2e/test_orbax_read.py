# SPDX-License-Identifier: MIT
"""Checkpoints that Orbax wrote, read by our reader: bit for bit, whatever Orbax was told.

Environment: TENSORPORT_READ_VALUES is the program built from tests/unit/read_values.c.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1

from conftest import ROOT, run

NAMES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn",
]
VECTORS = ROOT / "tests" / "data" / "orbax"

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class How:
    """How the values are asked for: by a reader of so many bytes (0: without one), in such pieces, shuffled or not."""

    memory: int = 0
    piece: int = 0
    seed: int = 0


WAYS = [
    How(),
    How(memory=1 << 20, piece=997),
    How(memory=1 << 20, piece=1013, seed=5),
    How(memory=8 << 20, piece=65536),
]


def program() -> Path:
    """Where the program is; the test fails if it is nowhere."""
    path = Path(os.environ.get("TENSORPORT_READ_VALUES") or ROOT / "build" / "tests" / "unit" / "read_values")
    if not path.exists():
        pytest.fail(f"no program at {path}: build it, or set TENSORPORT_READ_VALUES")
    return path.resolve()


def read_all(paths: list[Path], out: Path, how: How) -> list[dict[str, Any]]:
    """What the program says of each checkpoint; the values of the i-th are in the file `out`.i."""
    lines = "".join(f"{path}\t{out}.{i}\n" for i, path in enumerate(paths))
    done = subprocess.run(
        [program(), str(how.memory), str(how.piece), str(how.seed)],
        input=lines,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(paths)
    return answers


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype of this name, or that of ml_dtypes."""
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def read(path: Path, tmp: Path, how: How = How()) -> tuple[dict[str, Any], dict[str, Array]]:
    """One checkpoint: what is said of it, and its arrays."""
    (said,) = read_all([path], tmp / "values", how)
    assert "error" not in said, said
    data = (tmp / "values.0").read_bytes()
    arrays, at = {}, 0
    for name, dtype, shape, _ in said["tensors"]:
        array: Array = np.frombuffer(data, dtype_of(dtype), int(np.prod(shape, dtype=np.int64)), at).reshape(shape)
        arrays[name] = array
        at += array.nbytes
    assert at == len(data)
    return said, arrays


def refused(path: Path, tmp: Path) -> str:
    """The words with which a checkpoint is refused."""
    (said,) = read_all([path], tmp / "values", How())
    assert "error" in said, said
    return f"{said['status']}: {said['error']}"


def check(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """The same names, dtypes, shapes and bytes."""
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def flat(tree: Any, prefix: str = "") -> dict[str, Array]:
    """The leaves by their keys joined with dots."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        leaves: dict[str, Array] = {}
        for key, value in items:
            leaves |= flat(value, f"{prefix}.{key}" if prefix else str(key))
        return leaves
    return {} if tree is None or isinstance(tree, str) else {prefix: np.asarray(tree)}


def values(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Any bits, but those that only make noise (bool beyond 1, codes of half a byte)."""
    kind = dtype_of(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    raw = rng.integers(0, 256, count * kind.itemsize, np.uint8)
    if dtype in ("bool", "float4_e2m1fn"):
        raw &= 1 if dtype == "bool" else 15
    return raw.view(kind).reshape(shape)


def full_tree() -> dict[str, Any]:
    """Every dtype, ranks 0 to 8, lists, names that are no identifiers, empty branches."""
    rng = np.random.default_rng(4)
    return {
        "dtypes": {name: values(rng, name, (5, 7)) for name in NAMES},
        "ranks": [values(rng, "int16", tuple(2 + i % 2 for i in range(rank))) for rank in range(9)],
        "big": values(rng, "float32", (300, 500)),
        "model.layers.0.weight": values(rng, "bfloat16", (12, 8)),
        "with space": {"é": values(rng, "uint8", (3,))},
        "scalars": {"int": 7, "float": 2.5},
        "nothing": {"none": None, "dict": {}, "list": []},
        "text": "no array",
    }


def save_with(handler: ocp.PyTreeCheckpointHandler, path: Path, tree: Any, **args: Any) -> None:
    """Written and finished."""
    with ocp.Checkpointer(handler) as writer:
        writer.save(path, args=ocp.args.PyTreeSave(tree, **args))


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("zarr3", [True, False])
def test_everything_that_orbax_writes_is_read(tmp_path: Path, ocdbt: bool, zarr3: bool) -> None:
    tree = full_tree()
    if not ocdbt:
        tree["ranks"] = tree["ranks"][1:] + tree["ranks"][:1]
    save_with(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3), tmp_path / "ck", tree)
    for how in WAYS:
        said, found = read(tmp_path / "ck", tmp_path, how)
        check(found, flat(tree))
        assert said["format"] == "orbax"
        assert any("no arrays" in note and "text" in note for note in said["notes"]), said["notes"]


def test_a_tree_that_is_one_array_is_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int32)
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "ck", array)
    said, found = read(tmp_path / "ck", tmp_path)
    check(found, {"": array})
    assert said["tensors"][0][0] == ""


def shardings() -> list[tuple[str, NamedSharding]]:
    """Every way to lay two axes on the devices."""
    devices = np.array(jax.devices())
    square = Mesh(devices.reshape(2, -1), ("x", "y"))
    specs = [("x", None), (None, "y"), ("x", "y"), ("y", "x"), (("x", "y"), None), (None, ("y", "x")), (None, None)]
    return [(str(spec), NamedSharding(square, PartitionSpec(*spec))) for spec in specs]


@pytest.mark.parametrize("zarr3", [True, False])
@pytest.mark.parametrize("chunk_bytes", [None, 4096])
def test_grids_of_chunks_are_read(tmp_path: Path, zarr3: bool, chunk_bytes: int | None) -> None:
    """Sharded arrays become a chunk a shard; with a limit of bytes several, in zarr3 within a shard of chunks."""
    rng = np.random.default_rng(5)
    host = {
        "a": values(rng, "float32", (256, 512)),
        "b": values(rng, "bfloat16", (64, 32)),
        "c": values(rng, "uint8", (16, 8, 12)),
    }
    tree = {name: {k: jax.device_put(v, s) for k, v in host.items()} for name, s in shardings()}
    args = ocp.type_handlers.SaveArgs(chunk_byte_size=chunk_bytes)
    save_with(
        ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=zarr3),
        tmp_path / "ck",
        tree,
        save_args=jax.tree.map(lambda _: args, tree),
    )
    most = 0
    for how in [*WAYS, How(memory=1 << 20, piece=77)]:
        said, found = read(tmp_path / "ck", tmp_path, how)
        check(found, flat(tree))
        most = max(most, *(chunks for *_, chunks in said["tensors"]))
    assert most >= len(jax.devices())


def test_small_data_files_and_compressed_nodes_are_read(tmp_path: Path) -> None:
    """Thousands of keys: an interior root, nodes compressed, several data files."""
    rng = np.random.default_rng(6)
    tree = {
        f"layer_{i}": {"w": values(rng, "float32", (64, 80)), "b": values(rng, "float32", (4,))} for i in range(400)
    }
    save_with(ocp.PyTreeCheckpointHandler(), tmp_path / "ck", tree, ocdbt_target_data_file_size=1 << 20)
    said, found = read(tmp_path / "ck", tmp_path)
    check(found, flat(tree))
    assert said["files"] > 1


def test_steps_and_items_are_found(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with ocp.CheckpointManager(root) as manager:
        for step in (1, 20, 3):
            manager.save(step, args=ocp.args.StandardSave({"w": np.full(3, step, np.float32)}), force=True)
    for path, step in ((root, 20), (root / "3", 3), (root / "3" / "default", 3)):
        said, found = read(path, tmp_path)
        check(found, {"w": np.full(3, step, np.float32)})
        assert any("20" in note for note in said["notes"]) == (path == root)
    (root / "21.orbax-checkpoint-tmp-5").mkdir()
    (root / "30").mkdir()  # what a writer left that was killed
    check(read(root, tmp_path)[1], {"w": np.full(3, 20, np.float32)})
    shutil.copytree(root / "20", root / "40.orbax-checkpoint-tmp-1")
    assert "unfinished" in refused(root / "40.orbax-checkpoint-tmp-1", tmp_path)


def test_an_item_is_chosen_or_asked_for(tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path / "root", item_names=("params", "opt")) as manager:
        items = {
            name: ocp.args.StandardSave({"w": np.array([i], np.int32)}) for i, name in enumerate(["params", "opt"])
        }
        manager.save(0, args=ocp.args.Composite(**items))
    check(read(tmp_path / "root", tmp_path)[1], {"w": np.array([0], np.int32)})
    check(read(tmp_path / "root" / "0" / "opt", tmp_path)[1], {"w": np.array([1], np.int32)})
    (tmp_path / "root" / "0" / "params").rename(tmp_path / "root" / "0" / "ema")
    assert refused(tmp_path / "root", tmp_path) == "usage: several items, and none has a usual name: ema, opt"


def test_the_layout_of_version_1_is_read(tmp_path: Path) -> None:
    tree = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "l": [3, np.arange(2)]}
    v1.save(tmp_path / "ck", tree)
    check(read(tmp_path / "ck", tmp_path)[1], flat(tree))


@pytest.mark.parametrize("zarr3", [True, False])
def test_what_orbax_wrote_is_converted(tmp_path: Path, zarr3: bool) -> None:
    """To safetensors and to Orbax again, both proven against the source by the command itself."""
    tree = full_tree() | {name: jax.device_put(np.arange(1 << 15).reshape(128, 256), s) for name, s in shardings()}
    del tree["dtypes"]["float4_e2m1fn"]  # safetensors has two of them in a byte
    save_with(ocp.PyTreeCheckpointHandler(use_zarr3=zarr3), tmp_path / "ck", tree)
    for kind in ("safetensors", "orbax"):
        out = tmp_path / kind
        run("convert", "-i", tmp_path / "ck", "-o", out, "--format", kind, "--precision", "keep")
        run("verify", out, "--source", tmp_path / "ck")
        check(read(out, tmp_path)[1], flat(tree))


def write_zarr(path: Path, spec: dict[str, Any], array: Array, *, zarr3: bool = False, fill: bool = False) -> None:
    """A tree of one array "w" in plain zarr, written by TensorStore with any metadata."""
    store = ts.open(
        {
            "driver": "zarr3" if zarr3 else "zarr",
            "kvstore": {"driver": "file", "path": str(path / "w")},
            "metadata": spec,
            "create": True,
            "store_data_equal_to_fill_value": not fill,
        },
        dtype=ts.dtype(array.dtype),
        shape=array.shape,
    ).result()
    store.write(array).result()
    leaf = {
        "key_metadata": [{"key": "w", "key_type": 2}],
        "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
    }
    metadata = {
        "tree_metadata": {"('w',)": leaf},
        "use_ocdbt": False,
        "use_zarr3": zarr3,
        "store_array_data_equal_to_fill_value": not fill,
    }
    (path / "_METADATA").write_text(json.dumps(metadata))


ZSTD2 = {"id": "zstd", "level": 1}


@pytest.mark.parametrize("compressor", [None, ZSTD2])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunks", [(20, 33, 7), (7, 33, 7), (6, 10, 3), (1, 1, 7), (20, 1, 1), (64, 64, 64)])
def test_any_grid_of_zarr_2_is_read(tmp_path: Path, compressor: Any, order: str, chunks: tuple[int, ...]) -> None:
    """Edge chunks too, which are stored whole."""
    array = values(np.random.default_rng(7), "int16", (20, 33, 7))
    write_zarr(tmp_path / "ck", {"compressor": compressor, "chunks": list(chunks), "order": order}, array)
    for how in [*WAYS, How(memory=1 << 20, piece=31, seed=3)]:
        check(read(tmp_path / "ck", tmp_path, how)[1], {"w": array})


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD3 = {"name": "zstd", "configuration": {"level": 1}}
CRC = {"name": "crc32c"}


def transpose(*order: int) -> dict[str, Any]:
    """The codec of this name."""
    return {"name": "transpose", "configuration": {"order": list(order)}}


def shards(inner: list[int], codecs: list[Any], location: str = "end") -> dict[str, Any]:
    """The codec sharding_indexed."""
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": inner,
            "codecs": codecs,
            "index_codecs": [BYTES, CRC],
            "index_location": location,
        },
    }


@pytest.mark.parametrize(
    "codecs",
    [
        [BYTES],
        [BYTES, CRC],
        [BYTES, ZSTD3],
        [BYTES, ZSTD3, CRC],
        [transpose(2, 0, 1), BYTES],
        [transpose(1, 2, 0), BYTES, ZSTD3, CRC],
        [shards([2, 5, 7], [BYTES])],
        [shards([3, 2, 1], [BYTES, ZSTD3], "start")],
        [shards([6, 10, 7], [transpose(2, 1, 0), BYTES, CRC])],
    ],
    ids=lambda codecs: "-".join(codec["name"] for codec in codecs),
)
def test_any_codec_of_zarr_3_is_read(tmp_path: Path, codecs: list[Any]) -> None:
    array = values(np.random.default_rng(8), "float32", (20, 33, 7))
    grid = {"name": "regular", "configuration": {"chunk_shape": [6, 10, 7]}}
    write_zarr(tmp_path / "ck", {"chunk_grid": grid, "codecs": codecs}, array, zarr3=True)
    for how in [*WAYS, How(memory=1 << 20, piece=31, seed=3)]:
        check(read(tmp_path / "ck", tmp_path, how)[1], {"w": array})


@pytest.mark.parametrize("zarr3", [True, False])
def test_chunks_that_are_not_stored_are_fill_values_or_missed(tmp_path: Path, zarr3: bool) -> None:
    array: Array = np.full((4, 6), 7, np.int32)
    array[3, 5] = 1
    spec: dict[str, Any] = {"dtype": "<i4", "fill_value": 7, "chunks": [2, 3], "compressor": None}
    if zarr3:
        grid = {"name": "regular", "configuration": {"chunk_shape": [2, 3]}}
        spec = {"data_type": "int32", "fill_value": 7, "chunk_grid": grid, "codecs": [BYTES]}
    write_zarr(tmp_path / "ck", spec, array, zarr3=zarr3, fill=True)
    assert len([p for p in (tmp_path / "ck" / "w").rglob("*") if p.is_file()]) == 2
    check(read(tmp_path / "ck", tmp_path)[1], {"w": array})
    metadata = tmp_path / "ck" / "_METADATA"
    text = metadata.read_text().replace('_fill_value": false', '_fill_value": true')
    metadata.write_text(text)
    assert refused(tmp_path / "ck", tmp_path) == f"format: chunk '{'c/0/0' if zarr3 else '0.0'}' is missing"


@pytest.mark.parametrize("zarr3", [True, False])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
def test_arrays_without_elements_are_read(tmp_path: Path, shape: tuple[int, ...], zarr3: bool) -> None:
    """Orbax writes none, but overlays have them: metadata, and not one chunk."""
    array = np.zeros(shape, np.float32)
    write_zarr(tmp_path / "ck", {} if zarr3 else {"compressor": None}, array, zarr3=zarr3)
    said, found = read(tmp_path / "ck", tmp_path)
    check(found, {"w": array})
    assert said["tensors"][0][3] == 0


# ---- what is refused ----


def one_array(path: Path, **metadata: Any) -> dict[str, Any]:
    """A sound checkpoint in plain zarr, to be damaged; its .zarray."""
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_zarr(path, {"compressor": None, "chunks": [2, 3]}, array)
    zarray = json.loads((path / "w" / ".zarray").read_text()) | metadata
    (path / "w" / ".zarray").write_text(json.dumps(zarray))
    return dict(zarray)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"chunks": [2**63, 3]}, ""),
        ({"chunks": [2**62, 3]}, ""),
        ({"chunks": [0, 3]}, ""),
        ({"chunks": [2]}, ""),
        ({"shape": [2**40, 2**30]}, ""),
        ({"shape": [2**40, 6]}, "are declared; by far not as many are stored"),
        ({"shape": [400, 6]}, "chunk '2.0' is missing"),
        ({"dtype": "<f8"}, "has 24 bytes; its shape needs 48"),
        ({"dtype": ">f4"}, ""),
        ({"dtype": "<c16"}, ""),
        ({"compressor": {"id": "blosc"}}, "blosc"),
        ({"compressor": ZSTD2}, "is no zstd stream"),
        ({"filters": [{"id": "delta"}]}, ""),
        ({"order": "K"}, ""),
        ({"zarr_format": 3}, ""),
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_is_refused(tmp_path: Path, metadata: dict[str, Any], words: str) -> None:
    one_array(tmp_path / "ck", **metadata)
    assert words in refused(tmp_path / "ck", tmp_path)


def test_a_chunk_that_is_too_short_or_too_long_is_refused(tmp_path: Path) -> None:
    one_array(tmp_path / "ck")
    chunk = tmp_path / "ck" / "w" / "1.1"
    sound = chunk.read_bytes()
    for damaged in (sound[:-1], sound + b"x", b""):
        chunk.write_bytes(damaged)
        assert f"chunk 3 of 4 has {len(damaged)} bytes; its shape needs 24" in refused(tmp_path / "ck", tmp_path)


def test_damage_in_compressed_chunks_is_found(tmp_path: Path) -> None:
    """Cut, prolonged, and decoding to more or less than the shape says; where there is a CRC any flipped bit."""
    array = values(np.random.default_rng(9), "uint8", (1000,))
    grid = {"name": "regular", "configuration": {"chunk_shape": [1000]}}
    write_zarr(tmp_path / "a", {"chunk_grid": grid, "codecs": [BYTES, ZSTD3, CRC]}, array, zarr3=True)
    write_zarr(tmp_path / "b", {"compressor": ZSTD2, "chunks": [1000]}, array)
    write_zarr(tmp_path / "c", {"compressor": ZSTD2, "chunks": [1001]}, np.arange(1001, dtype=np.uint8))
    chunk = tmp_path / "a" / "w" / "c" / "0"
    sound = chunk.read_bytes()
    for at in [*range(0, len(sound), 41), *range(len(sound) - 8, len(sound))]:
        chunk.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        assert refused(tmp_path / "a", tmp_path).startswith("format: chunk 0 of 1 ")
    chunk = tmp_path / "b" / "w" / "0"
    sound = chunk.read_bytes()
    assert "ends within its zstd stream" in refused_with(tmp_path / "b", tmp_path, chunk, sound[:-3])
    assert "bytes behind the end of its zstd stream" in refused_with(tmp_path / "b", tmp_path, chunk, sound + b"\0")
    longer = (tmp_path / "c" / "w" / "0").read_bytes()
    assert "decodes to more bytes" in refused_with(tmp_path / "b", tmp_path, chunk, longer)
    assert "decodes to fewer bytes" in refused_with(tmp_path / "c", tmp_path, tmp_path / "c" / "w" / "0", sound)


def refused_with(path: Path, tmp: Path, file: Path, content: bytes) -> str:
    """The words, once a file has this content."""
    file.write_bytes(content)
    return refused(path, tmp)


def test_a_zstd_bomb_is_read_no_further_than_its_shape(tmp_path: Path) -> None:
    """A megabyte of blocks that each say "128 KiB of this byte": 32 GiB, of which 1000 bytes are asked for."""
    write_zarr(tmp_path / "ck", {"compressor": ZSTD2, "chunks": [1000]}, np.arange(1000, dtype=np.uint8))
    blocks = 250_000
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    bomb = struct.pack("<IBB", 0xFD2FB528, 0, 13 << 3) + block * blocks
    assert "decodes to more bytes" in refused_with(tmp_path / "ck", tmp_path, tmp_path / "ck" / "w" / "0", bomb)


def metadata_of(*leaves: tuple[list[tuple[str, int]], str], **more: Any) -> str:
    """A _METADATA with these leaves: keys with their types, and the type of the value."""
    tree = {
        str(i): {
            "key_metadata": [{"key": key, "key_type": kind} for key, kind in keys],
            "value_metadata": {"value_type": value, "skip_deserialize": False},
        }
        for i, (keys, value) in enumerate(leaves)
    }
    return json.dumps({"tree_metadata": tree, **more})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "format: "),
        ("{}", "'tree_metadata' is missing"),
        ("[]", "format: "),
        (metadata_of(([("w", 2)], "np.ndarray")) + "x", "format: "),
        (metadata_of(([("w", 3)], "np.ndarray")), "key_type 3"),
        (metadata_of(([("x", 2)], "np.ndarray")), "there is no array of this name"),
        (metadata_of(([("..", 2)], "np.ndarray")), "leads out of"),
        (metadata_of(([("../ck/w", 2)], "np.ndarray")), "leads out of"),
        (metadata_of(([("/w", 2)], "np.ndarray")), "leads out of"),
        (metadata_of(([("w\0", 2)], "np.ndarray")), "NUL"),
        (metadata_of(([("w" * 5000, 2)], "np.ndarray")), "limit: "),
        (
            metadata_of(([("a.b", 2)], "np.ndarray"), ([("a", 2), ("b", 2)], "np.ndarray")),
            "two arrays have this name",
        ),
        (metadata_of(([("w", 2)], "np.ndarray"), use_ocdbt=True), "manifest.ocdbt is missing"),
        (metadata_of(([("w", 2)], "np.ndarray"), use_ocdbt=7), "expected true or false"),
        (metadata_of(([("w", 2)], "np.ndarray"), use_zarr3=True), "there is no array of this name"),
        ('{"tree_metadata": {"a": {"value_metadata": {"value_type": "None"}}}}', "'key_metadata' is missing"),
        ('{"tree_metadata": {}, "tree_metadata": {}}', "occurs twice"),
    ],
)
def test_metadata_of_the_tree_that_is_wrong_is_refused(tmp_path: Path, text: str, words: str) -> None:
    one_array(tmp_path / "ck")
    (tmp_path / "ck" / "_METADATA").write_text(text)
    assert words in refused(tmp_path / "ck", tmp_path)


def test_old_metadata_without_flags_and_values_of_unknown_types_are_read(tmp_path: Path) -> None:
    one_array(tmp_path / "ck")
    leaves = [([("w", 2)], "my.Array"), ([("x", 2)], "my.Thing")]
    (tmp_path / "ck" / "_METADATA").write_text(metadata_of(*leaves))
    said, found = read(tmp_path / "ck", tmp_path)
    assert list(found) == ["w"]
    assert said["notes"] == ["1 values of the tree are no arrays and are left out: 'x' (my.Thing)"]


def flips(path: Path, tmp: Path, names: list[str]) -> None:
    """Bytes of these files flipped, one at a time: refused with words, or read; never a crash."""
    for number, name in enumerate(names):
        sound = (path / name).read_bytes()
        step = 1 + len(sound) // 60
        copies = []
        for at in range(number % step, len(sound), step):
            copy = tmp / "flipped" / f"{number}.{at}"
            shutil.copytree(path, copy, copy_function=os.link)
            (copy / name).unlink()
            (copy / name).write_bytes(sound[:at] + bytes([sound[at] ^ (1 << at % 8)]) + sound[at + 1 :])
            copies.append(copy)
        for said in read_all(copies, tmp / "out", How()):
            assert "tensors" in said or said["error"]
        shutil.rmtree(tmp / "flipped")
        for file in tmp.glob("out.*"):
            file.unlink()


def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    tree = {"a": np.arange(6, dtype=np.float32), "b": {"c": np.arange(900, dtype=np.int16).reshape(30, 30)}}
    save_with(ocp.PyTreeCheckpointHandler(use_zarr3=True), tmp_path / "ck", tree)
    nodes = [str(p.relative_to(tmp_path / "ck")) for p in (tmp_path / "ck").rglob("d/*")]
    flips(tmp_path / "ck", tmp_path, ["manifest.ocdbt", "_METADATA", *nodes])
    save_with(ocp.PyTreeCheckpointHandler(use_ocdbt=False), tmp_path / "plain", tree)
    flips(tmp_path / "plain", tmp_path, ["_METADATA", "a/.zarray", "b.c/0.0"])


@pytest.mark.parametrize("name", ["g1", "g2", "g3", "g4"])
def test_the_golden_overlays_have_their_values(tmp_path: Path, name: str) -> None:
    expected = json.loads((VECTORS / f"{name}.expect.json").read_text())
    for how in WAYS:
        said, found = read(VECTORS / name, tmp_path, how)
        assert sorted(found) == sorted(expected)
        for leaf, what in expected.items():
            assert found[leaf].tobytes().hex() == what["hex"], leaf
            assert (str(found[leaf].dtype), list(found[leaf].shape)) == (what["dtype"], what["shape"])
        assert said["files"] == (1 if name == "g1" else 2)

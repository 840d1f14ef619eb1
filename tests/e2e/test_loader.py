# SPDX-License-Identifier: MIT
"""The Python package on folders written here, from the description in docs/formats/manifest.md alone.

The loader never parses the container, so the "data files" of these tests are payloads with rubbish between, whatever
the layout. Where the layout safetensors has rules of its own, real outputs are read, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import tensorport
from conftest import DTYPES, REFUSED, ROOT, Raw, pack_float4, random_array, write_checkpoint
from tensorport import reading

WIDE = [name for name, (_, dtype) in DTYPES.items() if dtype.itemsize == 8 and name != "C64"]
LOADABLE = [name for name in DTYPES if name not in REFUSED]


def write_model(
    folder: Path,
    arrays: dict[str, Any],
    *,
    tree: str = "flat",
    files: int = 1,
    parts: int = 1,
    gap: int | None = None,
    views: dict[str, str] | None = None,
    layout: str = "flax-msgpack",
) -> dict[str, Any]:
    """A folder as TensorPort makes it: arrays in turn to `files` files, each cut into `parts` extents."""
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    contents = [bytearray() for _ in range(files)]
    rows = []
    for number, (name, array) in enumerate(arrays.items()):
        packed = layout == "safetensors" and array.dtype == DTYPES["F4"][1]
        data, extents = pack_float4(array) if packed else np.ascontiguousarray(array).tobytes(), []
        cuts = [array.size * part // parts for part in range(parts + 1)] if array.size >= parts else [0, array.size]
        for part, (first, end) in enumerate(pairwise(cuts)):
            file = (number + part) % files
            contents[file] += rng.bytes(int(rng.integers(1, 70)) if gap is None else gap)
            piece = data if packed else data[first * array.dtype.itemsize : end * array.dtype.itemsize]
            extent = {"file": file, "offset": len(contents[file]), "length": len(piece)}
            if len(cuts) > 2:
                extent["elements"] = [first, end]
            extents.append(extent | {"xxh3": []})
            contents[file] += piece
        keys = name.split(".") if tree == "nested" else [name]
        row = {"path": keys, "dtype": array.dtype.name, "shape": list(array.shape), "source": [name]}
        rows.append(row | ({"view": views[name]} if views and name in views else {}) | {"extents": extents})
    listed = []
    for number, content in enumerate(contents):
        name = f"model-{number + 1:05d}-of-{files:05d}.msgpack"
        (folder / name).write_bytes(content)
        listed.append({"name": name, "size": len(content)})
    document = {"format": "tensorport", "version": 1, "layout": layout, "tree": tree, "files": listed}
    document["arrays"] = rows
    write_manifest(folder, document)
    return document


def write_manifest(folder: Path, document: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps(document))


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays of a small model, written to tmp_path/model."""
    arrays = {
        "embed.weight": random_array(rng, "BF16", (100, 16)),
        "layers.0.weight": random_array(rng, "F16", (16, 64)),
        "layers.0.bias": random_array(rng, "F32", (64,)),
        "layers.1.weight": random_array(rng, "F16", (16, 64)),
        "step": random_array(rng, "I32", ()),
    }
    write_model(tmp_path / "model", arrays, files=2)
    return arrays


def same(found: Any, expected: np.ndarray) -> bool:
    """Equal dtype, shape and bits."""
    array = np.asarray(found)
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


# What is read


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("files", [1, 3])
def test_every_dtype_and_rank_is_read_bit_for_bit(tmp_path: Path, rng: np.random.Generator, files: int, parts: int):
    arrays = {}
    for name in LOADABLE:
        for rank in range(9):
            arrays[f"{name}.r{rank}"] = random_array(rng, name, rng.integers(1, 4, rank))
        arrays[f"{name}.empty"] = random_array(rng, name, (3, 0, 2))
    write_model(tmp_path, arrays, files=files, parts=parts)
    with tensorport.open(tmp_path) as checkpoint:
        assert checkpoint.names() == list(arrays)
        for name, array in arrays.items():
            tensor = checkpoint[name]
            assert (tensor.shape, tensor.dtype, tensor.ndim) == (array.shape, array.dtype, array.ndim)
            assert (tensor.size, tensor.nbytes) == (array.size, array.nbytes)
            assert same(tensor.numpy(), array), name
            assert same(np.asarray(tensor), array), name
    with jax.enable_x64(True):
        loaded = tensorport.load(tmp_path)
        assert list(loaded) == list(arrays)
        assert all(same(loaded[name], array) and isinstance(loaded[name], jax.Array) for name, array in arrays.items())


def test_a_nested_tree_comes_back_nested(tmp_path: Path, model: dict[str, np.ndarray]):
    write_model(tmp_path / "nested", model, tree="nested")
    loaded = tensorport.load(tmp_path / "nested")
    assert sorted(loaded) == ["embed", "layers", "step"]
    assert same(loaded["layers"]["1"]["weight"], model["layers.1.weight"])
    with tensorport.open(tmp_path / "nested") as checkpoint:
        assert checkpoint.names()[:2] == ["embed/weight", "layers/0/weight"]
        assert checkpoint["layers/0/bias"] is checkpoint["layers", "0", "bias"]
        assert checkpoint.tree()["layers"]["0"]["bias"] is checkpoint["layers/0/bias"]


def test_keys_with_slashes_that_clash_are_told_apart(tmp_path: Path):
    arrays = {"a/b.c": np.float32([1]), "a.b.c": np.float32([2])}
    write_model(tmp_path, arrays, tree="nested")
    with tensorport.open(tmp_path) as checkpoint:
        assert checkpoint["a/b", "c"].numpy() == 1
        assert checkpoint["a", "b", "c"].numpy() == 2
        assert len(set(checkpoint.names())) == 2
    loaded = tensorport.load(tmp_path)
    assert (loaded["a/b"]["c"], loaded["a"]["b"]["c"]) == (1, 2)


def test_arrays_begin_at_multiples_of_64_bytes_and_jax_does_not_copy_them(model: dict[str, np.ndarray], tmp_path: Path):
    with tensorport.open(tmp_path / "model") as checkpoint:
        array = checkpoint["embed.weight"].numpy()
        assert array.ctypes.data % 64 == 0
        assert array.flags.writeable
        assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data


def test_mapping_is_only_for_aligned_arrays_in_one_piece(tmp_path: Path, rng: np.random.Generator):
    arrays = {f"a{number}": random_array(rng, "F16", (32, 64)) for number in range(3)}
    write_model(tmp_path / "aligned", arrays, gap=64)
    write_model(tmp_path / "odd", arrays, gap=65)
    for folder, mapped in (("aligned", True), ("odd", False)):
        with tensorport.open(tmp_path / folder, mmap=True) as checkpoint:
            found = {name: tensor.numpy() for name, tensor in checkpoint.items()}
        assert all(same(found[name], array) for name, array in arrays.items())
        assert all(array.flags.writeable != mapped and array.ctypes.data % 64 == 0 for array in found.values())
        assert same(tensorport.load(tmp_path / folder, mmap=True)["a1"], arrays["a1"])


def test_views_of_compat_are_uint8_unless_asked_for(tmp_path: Path, rng: np.random.Generator):
    scale, codes = random_array(rng, "F8_E8M0", (5, 3)), random_array(rng, "F4", (5, 6))
    packed = np.frombuffer(pack_float4(codes), np.uint8).reshape(5, 3)
    write_model(
        tmp_path,
        {"scale": scale.view(np.uint8), "codes": packed},
        views={"scale": "float8_e8m0fnu", "codes": "float4_e2m1fn"},
    )
    stored = tensorport.load(tmp_path)
    assert same(stored["scale"], scale.view(np.uint8))
    assert same(stored["codes"], packed)
    viewed = tensorport.load(tmp_path, views=True)
    assert same(viewed["scale"], scale)
    assert same(viewed["codes"], codes)
    with tensorport.open(tmp_path, views=True) as checkpoint:
        tensor = checkpoint["codes"]
        assert (tensor.shape, tensor.nbytes) == ((5, 6), 30)
        for index in (np.s_[1:3, 1:4], np.s_[:, 3], np.s_[2, ::2], np.s_[::-2, 5:0:-3], np.s_[0:0], np.s_[:, 2:2]):
            assert same(tensor[index], codes[index]), index


# The layout safetensors


@pytest.fixture
def packed(tmp_path: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays of four-bit codes, rows that end within a byte among them; written to tmp_path/packed."""
    shapes = [(5, 6), (4, 3), (2, 1, 3), (8,), (0, 3), (3, 0), (2, 4, 5)]
    arrays = {"x".join(map(str, shape)): random_array(rng, "F4", shape) for shape in shapes}
    arrays["norm"] = random_array(rng, "BF16", (7,))
    write_model(tmp_path / "packed", arrays, layout="safetensors")
    return arrays


@pytest.mark.parametrize("mmap", [False, True])
def test_packed_codes_come_back_one_a_byte(packed: dict[str, np.ndarray], tmp_path: Path, mmap: bool):
    loaded = tensorport.load(tmp_path / "packed", mmap=mmap)
    assert list(loaded) == list(packed)
    with tensorport.open(tmp_path / "packed", mmap=mmap) as checkpoint:
        for name, array in packed.items():
            tensor = checkpoint[name]
            assert (tensor.shape, tensor.dtype, tensor.nbytes) == (array.shape, array.dtype, array.nbytes)
            assert tensor.codes is None
            assert same(tensor.numpy(), array), name
            assert same(loaded[name], array), name


def test_slices_of_packed_codes_equal_numpys(
    packed: dict[str, np.ndarray], tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    with tensorport.open(tmp_path / "packed") as checkpoint:
        for name, array in packed.items():
            for _ in range(100):
                index = tuple(random_index(rng, size) if size else slice(None) for size in array.shape)
                assert same(checkpoint[name][index], array[index]), (name, index)
        assert bytes_read(lambda: checkpoint["4x3"][1:3], monkeypatch) <= 4
        assert bytes_read(lambda: checkpoint["5x6"][2], monkeypatch) == 3


def test_packed_codes_are_sharded(tmp_path: Path, rng: np.random.Generator):
    arrays = {"even": random_array(rng, "F4", (8, 6)), "odd": random_array(rng, "F4", (8, 3))}
    write_model(tmp_path, arrays, layout="safetensors")
    sharding = NamedSharding(mesh(4), PartitionSpec("x"))
    for name, array in tensorport.load(tmp_path, sharding=sharding).items():
        assert array.sharding == sharding
        assert same(array, arrays[name])
        for shard in array.addressable_shards:
            assert same(shard.data, arrays[name][shard.index])


SIX = {"F6_E2M3": ((5, 8), (5, 6)), "F6_E3M2": ((4, 3), (9,))}  # shape in codes, and of the bytes


@pytest.mark.parametrize("files", [1, 3])
def test_outputs_of_format_safetensors_are_read(
    tmp_path: Path, rng: np.random.Generator, files: int, convert: Callable[..., Path]
):
    arrays = {name: random_array(rng, name, (5, 6)) for name in LOADABLE}
    arrays |= {"odd.codes": random_array(rng, "F4", (4, 3)), "scalar": random_array(rng, "F32", ())}
    arrays["empty"] = random_array(rng, "F16", (0, 3))
    six = {name: Raw(name, shape, rng.bytes(int(np.prod(stored)))) for name, (shape, stored) in SIX.items()}
    source = write_checkpoint(tmp_path / "in", arrays | six, files)
    out = convert(source, "--format", "safetensors", "--shard-size", 1500)
    with tensorport.open(out) as checkpoint:
        assert sorted(checkpoint) == sorted(arrays | six)
        for name, array in arrays.items():
            assert same(checkpoint[name].numpy(), array), name
            assert same(checkpoint[name][...], array), name
        for name, raw in six.items():
            tensor = checkpoint[name]
            assert (tensor.shape, tensor.dtype, tensor.codes) == (SIX[name][1], np.uint8, DTYPES[name][1])
            assert tensor.numpy().tobytes() == raw.data
            assert tensor[-1:].tobytes() == raw.data[-tensor[-1:].size :]
    with jax.enable_x64(True):
        loaded = tensorport.load(out, names=lambda name: name not in six)
    assert all(same(loaded[name], array) for name, array in arrays.items())
    assert tensorport.load(out, names="F6_E2M3")["F6_E2M3"].shape == (5, 6)


def test_a_decoded_copy_as_safetensors_is_what_msgpack_holds(convert: Callable[..., Path]):
    source = ROOT / "tests" / "data" / "quantised" / "mxfp4-gptoss" / "model.safetensors"
    options = ("--dequantize", "--precision", "bfloat16")
    plain = tensorport.load(convert(source, *options))
    again = tensorport.load(convert(source, *options, "--format", "safetensors"))
    assert sorted(again) == sorted(plain)
    assert all(same(again[name], np.asarray(array)) for name, array in plain.items())


def test_compat_of_format_safetensors_has_its_views(
    tmp_path: Path, rng: np.random.Generator, convert: Callable[..., Path]
):
    arrays = {name: random_array(rng, name, (5, 6)) for name in ("F4", "F8_E8M0", "BF16")}
    out = convert(write_checkpoint(tmp_path / "in", arrays), "--format", "safetensors", "--compat")
    stored = tensorport.load(out)
    assert (stored["F4"].shape, stored["F4"].dtype) == ((5, 3), np.uint8)
    viewed = tensorport.load(out, views=True)
    assert all(same(viewed[name], array) for name, array in arrays.items())


UNSOUND_CODES = {
    "bytes not filled": (lambda row: row.update(shape=[1, 1]), "1 codes of 4 bits do not fill whole bytes"),
    "scalar": (lambda row: row.update(shape=[]), "1 codes of 4 bits do not fill whole bytes"),
    "bytes as if unpacked": (lambda row: row["extents"][0].update(length=30), "30 bytes, its elements need 15"),
    "codes of six bits": (lambda row: row.update(dtype="float6_e2m3fn"), "do not fill whole bytes"),
    "other six bits": (lambda row: row.update(dtype="float6_e3m2fn", shape=[4]), "15 bytes, its elements need 3"),
    "shape wraps": (lambda row: row.update(shape=[1 << 32, 1 << 32]), "2.63 bytes or more"),
    "shape wraps with 0": (lambda row: row.update(shape=[0, 1 << 32, 1 << 32]), "2.63 bytes or more"),
    "shape huge": (lambda row: row.update(shape=[1 << 62]), "its elements need 2305843009213693952"),
    "view": (lambda row: row.update(view="float8_e8m0fnu"), "only uint8 can stand for"),
    "elements": (lambda row: row["extents"][0].update(elements=[0, 30]), "elements 0 to 30 of 15"),
}


@pytest.mark.parametrize("fault", UNSOUND_CODES)
def test_unsound_rows_of_packed_codes_are_refused(packed: dict[str, np.ndarray], tmp_path: Path, fault: str):
    document = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    apply, message = UNSOUND_CODES[fault]
    apply(document["arrays"][0])
    write_manifest(tmp_path / "packed", document)
    with pytest.raises(tensorport.FormatError, match=message):
        tensorport.open(tmp_path / "packed")


# Slices


@pytest.mark.parametrize("parts", [1, 5])
def test_slices_equal_numpys(tmp_path: Path, rng: np.random.Generator, parts: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_GAP_BYTES", 8)  # so that both ways of gathering are used
    monkeypatch.setattr(reading, "_WINDOW_BYTES", 64)
    monkeypatch.setattr(reading, "_PIECE_BYTES", 48)
    monkeypatch.setattr(reading, "_PARALLEL_BYTES", 500)
    shape = (7, 1, 12, 9)
    array = random_array(rng, "I16", shape)
    write_model(tmp_path, {"a": array}, files=2, parts=parts)
    with tensorport.open(tmp_path, threads=3) as checkpoint:
        tensor = checkpoint["a"]
        for _ in range(400):
            index = tuple(random_index(rng, size) for size in shape)
            first, end = sorted(rng.integers(0, 5, 2))
            if rng.random() < 0.5:
                index = (*index[:first], ..., *index[end:])
            assert same(tensor[index], array[index]), index
        assert same(tensor[3], array[3])
        assert same(tensor[...], array)
        assert same(tensor[np.int64(-1), 0, 2:4], array[-1, 0, 2:4])


def random_index(rng: np.random.Generator, size: int) -> int | slice:
    if rng.random() < 0.3:
        return int(rng.integers(-size, size))
    start, stop = (None if rng.random() < 0.3 else int(rng.integers(-size - 2, size + 3)) for _ in range(2))
    return slice(start, stop, int(rng.choice([1, 1, 1, 2, 3, -1, -2])))


@pytest.mark.parametrize("index", [7, -8, (0, 0, 0), np.array([1]), True, "x", None, 1.5, (..., ...)])
def test_other_indices_are_index_errors(tmp_path: Path, index: Any):
    write_model(tmp_path, {"a": np.zeros((7, 2), np.int8)})
    with tensorport.open(tmp_path) as checkpoint, pytest.raises(IndexError):
        checkpoint["a"][index]


def bytes_read(action: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes `action` asks of the files."""
    total = 0
    real = os.preadv

    def counting(fd: int, buffers: list[Any], offset: int) -> int:
        nonlocal total
        total += sum(len(buffer) for buffer in buffers)
        return real(fd, buffers, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", counting)
        action()
    return total


def test_a_slice_reads_only_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    array = np.arange(1 << 20, dtype=np.float32).reshape(16, 1 << 16)
    write_model(tmp_path, {"a": array})
    with tensorport.open(tmp_path) as checkpoint:
        tensor = checkpoint["a"]
        assert bytes_read(lambda: tensor[3:5], monkeypatch) == array[3:5].nbytes
        assert bytes_read(lambda: tensor[:, : 1 << 15], monkeypatch) == array.nbytes // 2
        assert bytes_read(lambda: tensor[:, 7], monkeypatch) == 16 * 4
        assert bytes_read(lambda: tensor[:0], monkeypatch) == 0


def test_opening_reads_no_array(model: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert bytes_read(lambda: tensorport.open(tmp_path / "model").tree(), monkeypatch) == 0


# Placement on devices


def mesh(*shape: int) -> Mesh:
    count = int(np.prod(shape))
    if jax.device_count() < count:
        pytest.fail("conftest.py asks for eight devices; XLA_FLAGS of the environment overrode it")
    return Mesh(np.array(jax.devices()[:count]).reshape(shape), ("x", "y")[: len(shape)])


SPECS = [PartitionSpec("x"), PartitionSpec(None, "x"), PartitionSpec(), PartitionSpec("x", "y"), PartitionSpec("y")]


@pytest.mark.parametrize("spec", SPECS)
def test_each_device_holds_its_slice(tmp_path: Path, rng: np.random.Generator, spec: PartitionSpec):
    arrays = {"a": random_array(rng, "BF16", (8, 6)), "b": random_array(rng, "F8_E4M3", (16, 4))}
    write_model(tmp_path, arrays, files=2, parts=3)
    sharding = NamedSharding(mesh(2, 2), spec)
    for name, array in tensorport.load(tmp_path, sharding=sharding).items():
        assert array.sharding == sharding
        assert same(array, arrays[name])
        for shard in array.addressable_shards:
            assert same(shard.data, arrays[name][shard.index])


def test_replicated_slices_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    array = np.arange(4096, dtype=np.int32).reshape(64, 64)
    write_model(tmp_path, {"a": array})
    sharding = NamedSharding(mesh(2, 2), PartitionSpec("x"))
    assert bytes_read(lambda: tensorport.load(tmp_path, sharding=sharding), monkeypatch) == array.nbytes
    sharding = NamedSharding(mesh(2, 2), PartitionSpec())
    assert bytes_read(lambda: tensorport.load(tmp_path, sharding=sharding), monkeypatch) == array.nbytes


def test_a_function_gives_each_array_its_sharding(model: dict[str, np.ndarray], tmp_path: Path):
    rows = NamedSharding(mesh(4), PartitionSpec("x"))
    loaded = tensorport.load(tmp_path / "model", sharding=lambda name: rows if name.endswith("weight") else None)
    for name, array in loaded.items():
        assert same(array, model[name])
        assert (array.sharding == rows) == name.endswith("weight")


def test_one_tensor_can_be_placed(model: dict[str, np.ndarray], tmp_path: Path):
    last = SingleDeviceSharding(jax.devices()[-1])
    with tensorport.open(tmp_path / "model") as checkpoint:
        array = checkpoint["layers.0.bias"].jax(last)
        assert array.sharding == last
        assert same(array, model["layers.0.bias"])


def test_64_bit_arrays_are_refused_by_name_unless_allowed(tmp_path: Path, rng: np.random.Generator):
    arrays = {name: random_array(rng, name, (8,)) for name in LOADABLE}
    write_model(tmp_path, arrays)
    with pytest.raises(tensorport.TruncationError, match="jax_enable_x64") as caught:
        tensorport.load(tmp_path)
    assert caught.value.names == WIDE
    loaded = tensorport.load(tmp_path, names=lambda name: name not in WIDE)
    assert same(loaded["C64"], arrays["C64"])
    rows = NamedSharding(mesh(2), PartitionSpec("x"))
    for sharding in (None, rows):
        loaded = tensorport.load(tmp_path, names=["I64", "U64", "F64"], allow_truncation=True, sharding=sharding)
        assert same(loaded["I64"], arrays["I64"].astype(np.int32))
        assert same(loaded["U64"], arrays["U64"].astype(np.uint32))
        assert loaded["F64"].dtype == np.float32
    with jax.enable_x64(True):
        assert same(tensorport.load(tmp_path, names="I64")["I64"], arrays["I64"])


# Choosing and matching


def test_names_are_globs_names_or_a_function(model: dict[str, np.ndarray], tmp_path: Path):
    def chosen(names: Any) -> list[str]:
        return list(tensorport.load(tmp_path / "model", names=names))

    assert chosen("layers.*") == ["layers.0.weight", "layers.0.bias", "layers.1.weight"]
    assert chosen(["step", "*.bias"]) == ["layers.0.bias", "step"]
    assert chosen(lambda name: "1" in name) == ["layers.1.weight"]
    assert chosen([]) == []
    with pytest.raises(tensorport.MismatchError, match="'LAYERS\\*' selects nothing") as caught:
        chosen(["LAYERS*", "step", "nothing"])
    assert len(caught.value.problems) == 2


def test_a_glob_that_is_a_name_means_that_name(tmp_path: Path):
    write_model(tmp_path, {"a[0]": np.int8([1]), "a0": np.int8([2])})
    assert list(tensorport.load(tmp_path, names="a[0]")) == ["a[0]"]


def test_like_gives_its_own_structure(model: dict[str, np.ndarray], tmp_path: Path):
    def spec(name: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(model[name].shape, model[name].dtype)

    like = {
        "embed": {"weight": spec("embed.weight")},
        "layers": [
            {"weight": spec("layers.0.weight"), "bias": spec("layers.0.bias")},
            {"weight": spec("layers.1.weight")},
        ],
        "step": spec("step"),
    }
    write_model(tmp_path / "nested", model, tree="nested")
    for folder in ("model", "nested"):
        loaded = tensorport.load(tmp_path / folder, like=like)
        assert jax.tree.structure(loaded) == jax.tree.structure(like)
        assert same(loaded["layers"][1]["weight"], model["layers.1.weight"])
        assert same(loaded["step"], model["step"])
    loaded = tensorport.load(tmp_path / "model", like={name: spec(name) for name in model})
    assert all(same(loaded[name], array) for name, array in model.items())


def test_all_that_does_not_fit_like_is_told_at_once(model: dict[str, np.ndarray], tmp_path: Path):
    like = {
        "embed.weight": jax.ShapeDtypeStruct((100, 17), ml_dtypes.bfloat16),
        "layers.0.weight": jax.ShapeDtypeStruct((16, 64), jnp.float32),
        "layers.0.bias": jax.ShapeDtypeStruct((64,), jnp.float32),
        "step": 3,
        "head": jax.ShapeDtypeStruct((2, 2), jnp.int8),
    }
    with pytest.raises(tensorport.MismatchError) as caught:
        tensorport.load(tmp_path / "model", like=like)
    text = str(caught.value)
    assert "'embed.weight': shape [100, 16] in the checkpoint, [100, 17] in like" in text
    assert "'layers.0.weight': float16 in the checkpoint, float32 in like" in text
    assert "missing in the checkpoint: 'head' int8 [2, 2]" in text
    assert "not in like: 'layers.1.weight' float16 [16, 64]" in text
    assert "'step': the leaf of like is a int" in text
    assert len(caught.value.problems) == 5


def test_like_and_names_together_leave_arrays_out(model: dict[str, np.ndarray], tmp_path: Path):
    like = {"step": jax.ShapeDtypeStruct((), jnp.int32)}
    assert same(tensorport.load(tmp_path / "model", like=like, names="step")["step"], model["step"])


def test_a_dtype_that_truncation_would_fit_is_said(tmp_path: Path):
    write_model(tmp_path, {"ids": np.arange(3)})
    like = {"ids": jax.ShapeDtypeStruct((3,), jnp.int32)}
    with pytest.raises(tensorport.MismatchError, match="int64 in the checkpoint, int32 in like"):
        tensorport.load(tmp_path, like=like)
    assert same(tensorport.load(tmp_path, like=like, allow_truncation=True)["ids"], np.arange(3, dtype=np.int32))


def test_shardings_of_like_are_used(model: dict[str, np.ndarray], tmp_path: Path):
    rows = NamedSharding(mesh(4), PartitionSpec("x"))
    like = {"layers.0.weight": jax.ShapeDtypeStruct((16, 64), jnp.float16, sharding=rows)}
    names = list(like)
    assert tensorport.load(tmp_path / "model", like=like, names=names)["layers.0.weight"].sharding == rows
    other = SingleDeviceSharding(jax.devices()[1])
    loaded = tensorport.load(tmp_path / "model", like=like, names=names, sharding=other)
    assert loaded["layers.0.weight"].sharding == other


def test_an_nnx_state_can_be_like(tmp_path: Path, rng: np.random.Generator):
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.layers = nnx.List([nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)])

    state = nnx.eval_shape(lambda: nnx.state(Net(nnx.Rngs(0)), nnx.Param))
    arrays = {}
    for number, shape in enumerate([(3, 5), (5, 2)]):
        arrays[f"layers.{number}.kernel"] = random_array(rng, "F32", shape)
        arrays[f"layers.{number}.bias"] = random_array(rng, "F32", shape[1:])
    write_model(tmp_path, arrays, tree="nested")
    loaded = tensorport.load(tmp_path, like=state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert same(loaded["layers"][1]["kernel"][...], arrays["layers.1.kernel"])


# Hostile and damaged folders

HUGE = (1 << 63) - 1


def at(document: Any, *keys: Any) -> Any:
    for key in keys:
        document = document[key]
    return document


def change(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set the value at `keys` of a manifest."""

    def apply(document: dict[str, Any]) -> None:
        at(document, *keys[:-1])[keys[-1]] = to

    return apply


def drop(*keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: at(document, *keys[:-1]).pop(keys[-1]) and None


def extent(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    return change("arrays", 0, "extents", 0, *keys, to=to)


UNSOUND = {
    "other format": (change("format", to="x"), "not a manifest"),
    "newer version": (change("version", to=2), "newer tensorport"),
    "version 0": (change("version", to=0), "version 0"),
    "version true": (change("version", to=True), "version"),
    "version text": (change("version", to="1"), "version"),
    "layout": (change("layout", to="jax"), "'jax' is unknown"),
    "tree": (change("tree", to="tall"), "neither flat nor nested"),
    "no files": (drop("files"), "'files' is missing"),
    "files an object": (change("files", to={}), "'files' is not a list"),
    "file a text": (change("files", 0, to="x"), "not an object"),
    "no arrays": (drop("arrays"), "'arrays' is missing"),
    "array a list": (change("arrays", 0, to=[]), "array number 0: not an object"),
    "name missing": (drop("files", 0, "name"), "'name' is missing"),
    "name a number": (change("files", 0, "name", to=1), "'name' is not a str"),
    "name empty": (change("files", 0, "name", to=""), "plain name"),
    "name .": (change("files", 0, "name", to="."), "plain name"),
    "name ..": (change("files", 0, "name", to=".."), "plain name"),
    "name above": (change("files", 0, "name", to="../secret"), "plain name"),
    "name absolute": (change("files", 0, "name", to="/etc/passwd"), "plain name"),
    "name backslash": (change("files", 0, "name", to="..\\x"), "plain name"),
    "name drive": (change("files", 0, "name", to="C:x"), "plain name"),
    "name NUL": (change("files", 0, "name", to="a\0b"), "plain name"),
    "name surrogate": (change("files", 0, "name", to="\udc80"), "plain name"),
    "name long": (change("files", 0, "name", to="x" * 5000), "too long"),
    "file missing": (change("files", 0, "name", to="gone.msgpack"), "'gone.msgpack' is missing"),
    "file a folder": (change("files", 0, "name", to="folder"), "not a regular file"),
    "file a FIFO": (change("files", 0, "name", to="fifo"), "not a regular file"),
    "size small": (change("files", 0, "size", to=1), "the manifest says 1 .enlarged"),
    "size huge": (change("files", 0, "size", to=HUGE), "truncated"),
    "size negative": (change("files", 0, "size", to=-1), "size of file"),
    "size a float": (change("files", 0, "size", to=1.0), "size of file"),
    "path a text": (change("arrays", 0, "path", to="w"), "'path' is not a list"),
    "path empty": (change("arrays", 0, "path", to=[]), "one or more texts"),
    "path numbers": (change("arrays", 0, "path", to=[0]), "one or more texts"),
    "path surrogate": (change("arrays", 0, "path", to=["\ud800"]), "one or more texts"),
    "path too many": (change("arrays", 0, "path", to=["a", "b"]), "flat tree"),
    "path twice": (change("arrays", 0, "path", to=["layers.0.bias"]), "'layers.0.bias': listed twice"),
    "dtype unknown": (change("arrays", 0, "dtype", to="float33"), "unknown dtype 'float33'"),
    "dtype object": (change("arrays", 0, "dtype", to="object"), "unknown dtype 'object'"),
    "dtype record": (change("arrays", 0, "dtype", to="f4,O"), "unknown dtype"),
    "dtype a number": (change("arrays", 0, "dtype", to=4), "'dtype' is not a str"),
    "shape text": (change("arrays", 0, "shape", to="100"), "'shape' is not a list"),
    "shape negative": (change("arrays", 0, "shape", to=[-100, -16]), "a size in 'shape'"),
    "shape true": (change("arrays", 0, "shape", to=[True]), "a size in 'shape'"),
    "shape 2^63": (change("arrays", 0, "shape", to=[1 << 63]), "a size in 'shape'"),
    "shape wraps": (change("arrays", 0, "shape", to=[1 << 32, 1 << 32]), "2.63 bytes or more"),
    "shape wraps bytes": (change("arrays", 0, "shape", to=[1 << 62]), "2.63 bytes or more"),
    "shape wraps with 0": (change("arrays", 0, "shape", to=[0, 1 << 32, 1 << 32]), "2.63 bytes or more"),
    "shape other": (change("arrays", 0, "shape", to=[100, 17]), "its elements need 3400"),
    "rank": (change("arrays", 0, "shape", to=[1] * 65), "65 axes"),
    "no extents": (change("arrays", 0, "extents", to=[]), "no extents"),
    "extents missing": (drop("arrays", 0, "extents"), "'extents' is missing"),
    "extent a number": (change("arrays", 0, "extents", 0, to=1), "not an object"),
    "file number": (extent("file", to=2), "there are 2 files"),
    "file number negative": (extent("file", to=-1), "an extent's 'file'"),
    "offset beyond": (extent("offset", to=5000), "beyond the end"),
    "offset wraps": (extent("offset", to=HUGE), "beyond the end"),
    "offset negative": (extent("offset", to=-1), "an extent's 'offset'"),
    "length": (extent("length", to=3199), "3199 bytes, its elements need 3200"),
    "length huge": (extent("length", to=HUGE), "its elements need 3200"),
    "box": (extent("box", to=[[0, 100], [0, 16]]), "box"),
    "order": (extent("order", to=[1, 0]), "order"),
    "elements part": (extent("elements", to=[0, 1599]), "its elements need 3198"),
    "elements late": (extent("elements", to=[1, 1600]), "where 0 should follow"),
    "elements reversed": (extent("elements", to=[5, 1]), "elements 5 to 1"),
    "elements many": (extent("elements", to=[0, 1601]), "elements 0 to 1601"),
    "elements a number": (extent("elements", to=3), "not a pair"),
    "elements texts": (extent("elements", to=["0", "1"]), "'elements' is not an integer"),
    "whole array twice": (lambda d: d["arrays"][0]["extents"].append(d["arrays"][0]["extents"][0]), "1600 should"),
    "overlap": (lambda d: d["arrays"][1]["extents"][0].update(d["arrays"][3]["extents"][0]), "overlap those of"),
    "view of floats": (change("arrays", 0, "view", to="float8_e8m0fnu"), "only uint8"),
    "view unknown": (change("arrays", 0, "view", to="x"), "unknown dtype"),
}


@pytest.mark.parametrize("layout", ["flax-msgpack", "safetensors", "orbax"])
@pytest.mark.parametrize("fault", UNSOUND)
def test_an_unsound_manifest_is_refused(model: dict[str, np.ndarray], tmp_path: Path, fault: str, layout: str):
    folder = tmp_path / "model"
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    document = json.loads((folder / "manifest.json").read_text()) | {"layout": layout}
    apply, message = UNSOUND[fault]
    if (fault, layout) == ("name drive", "orbax"):
        message = "is missing"  # a folder may be called as a tensor is, and those may have a colon
    apply(document)
    write_manifest(folder, document)
    with pytest.raises(tensorport.FormatError, match=message) as caught:
        tensorport.load(folder)
    assert "manifest.json" in str(caught.value)


BAD_TEXT = {
    "empty": b"",
    "cut": b'{"format": "tensorport",',
    "not UTF-8": b'{"format": "\xff"}',
    "BOM": b"\xef\xbb\xbf{}",
    "list": b"[]",
    "key twice": b'{"format": "tensorport", "format": "tensorport"}',
    "NaN": b'{"format": NaN}',
    "deep": b'{"format":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long number": b'{"version": ' + b"9" * 5000 + b"}",
    "huge number": b'{"format": "tensorport", "version": 1e999}',
}


@pytest.mark.parametrize("text", BAD_TEXT)
def test_text_that_is_not_a_manifest_is_refused(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_bytes(BAD_TEXT[text])
    with pytest.raises(tensorport.FormatError, match=r"manifest\.json"):
        tensorport.open(tmp_path)


def test_a_leaf_above_another_leaf_is_refused(tmp_path: Path):
    write_model(tmp_path, {"a.b": np.int8([1]), "a.b.c.d": np.int8([2]), "a.b0": np.int8([3])}, tree="nested")
    with pytest.raises(tensorport.FormatError, match="'a/b/c/d': 'a/b' is an array itself"):
        tensorport.open(tmp_path)


def test_names_in_messages_cannot_reach_the_terminal_raw(tmp_path: Path):
    document = write_model(tmp_path, {"\x1b[2J\u202ex": np.int8([1])})
    document["arrays"][0]["dtype"] = "object"
    write_manifest(tmp_path, document)
    with pytest.raises(tensorport.FormatError, match="array") as caught:
        tensorport.open(tmp_path)
    assert str(caught.value).isprintable()


def test_a_very_deep_tree_is_loaded_and_a_deeper_one_refused(tmp_path: Path):
    write_model(tmp_path, {".".join("k" * 500): np.int8([1])}, tree="nested")
    assert len(jax.tree.leaves(tensorport.load(tmp_path))) == 1
    write_model(tmp_path, {".".join("k" * 501): np.int8([1])}, tree="nested")
    with pytest.raises(tensorport.FormatError, match="at most 500"):
        tensorport.open(tmp_path)


def test_of_a_folder_of_steps_the_last_one_is_loaded(tmp_path: Path):
    for step in ("0", "9", "10", "notes", "11"):
        (tmp_path / step).mkdir()
    for step in ("0", "9", "10", "notes"):
        write_model(tmp_path / step, {"x": np.int8([len(step), int(step) if step.isdigit() else -1])})
    assert tensorport.load(tmp_path)["x"].tolist() == [2, 10]  # 11 is not complete
    with tensorport.open(tmp_path) as checkpoint:
        assert checkpoint.folder == tmp_path / "10"


def test_missing_folders_and_manifests_are_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        tensorport.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no manifest"):
        tensorport.open(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(tensorport.FormatError, match="not a regular file"):
        tensorport.open(tmp_path)


def test_a_file_that_changed_since_it_was_opened_is_an_error(model: dict[str, np.ndarray], tmp_path: Path):
    file = tmp_path / "model" / "model-00001-of-00002.msgpack"
    with tensorport.open(tmp_path / "model") as checkpoint:
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
        with pytest.raises(tensorport.FormatError, match="changed since"):
            checkpoint["embed.weight"].numpy()
    with tensorport.open(tmp_path / "model") as checkpoint:
        os.truncate(file, 10)
        with pytest.raises(tensorport.FormatError, match="changed since"):
            checkpoint["embed.weight"][0]


def test_a_file_that_ends_early_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_model(tmp_path, {"a": np.zeros(100, np.uint8)})
    with tensorport.open(tmp_path) as checkpoint:
        monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: 0)
        with pytest.raises(tensorport.FormatError, match="ends at byte"):
            checkpoint["a"].numpy()


def test_short_reads_are_continued(model: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: real(fd, [buffers[0][:7]], offset))
    loaded = tensorport.load(tmp_path / "model")
    assert all(same(loaded[name], array) for name, array in model.items())


def test_links_as_in_a_cache_of_models_are_followed(model: dict[str, np.ndarray], tmp_path: Path):
    (tmp_path / "snapshot").mkdir()
    for file in (tmp_path / "model").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(f"../model/{file.name}")
    assert same(tensorport.load(tmp_path / "snapshot")["step"], model["step"])


def test_a_closed_checkpoint_reads_no_more(model: dict[str, np.ndarray], tmp_path: Path):
    with tensorport.open(tmp_path / "model") as checkpoint:
        tensor = checkpoint["step"]
    with pytest.raises(ValueError, match="closed"):
        tensor.numpy()


def test_many_threads_may_read_at_once(model: dict[str, np.ndarray], tmp_path: Path):
    wrong = []
    with tensorport.open(tmp_path / "model") as checkpoint:

        def work() -> None:
            for _ in range(20):
                wrong.extend(name for name, array in model.items() if not same(checkpoint[name].numpy(), array))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# Size


def test_tens_of_thousands_of_arrays_are_opened(tmp_path: Path):
    arrays = {f"model.layers.{n // 8}.mlp.experts.{n % 8}.weight": np.full((2, 2), n, np.int32) for n in range(20_000)}
    write_model(tmp_path, arrays, files=3)
    with tensorport.open(tmp_path) as checkpoint:
        assert len(checkpoint) == 20_000
        assert checkpoint["model.layers.2499.mlp.experts.7.weight"].numpy()[0, 0] == 19_999


def test_a_large_array_is_read_in_pieces_by_several_threads(tmp_path: Path, rng: np.random.Generator):
    array = random_array(rng, "U32", (5000, 1001))
    write_model(tmp_path, {"a": array}, files=3, parts=4)
    with tensorport.open(tmp_path, threads=3) as checkpoint:
        assert same(checkpoint["a"].numpy(), array)
        assert same(checkpoint["a"][:, 1:1000], array[:, 1:1000])
        assert same(checkpoint["a"][:, ::7], array[:, ::7])
        assert same(checkpoint["a"][1000:4000], array[1000:4000])


def test_without_load_jax_is_not_imported(model: dict[str, np.ndarray], tmp_path: Path):
    code = (
        "import sys, tensorport\n"
        f"print(tensorport.open({str(tmp_path / 'model')!r})['step'].numpy().dtype, 'jax' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "int32 False\n"


# The front to the command


@pytest.fixture
def fake_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command that prints its arguments as a summary and fails if one of them is --workers=13."""
    path = tmp_path / "fake"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "print(json.dumps({'arguments': sys.argv[1:]}))\n"
        "if '--workers=13' in sys.argv: sys.stderr.write('tensorport: an unlucky number\\n'); sys.exit(3)\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("TENSORPORT_BIN", str(path))
    return path


def test_options_become_arguments(fake_command: Path):
    summary = tensorport.convert(
        Path("in"), "out", shard_size="1.5GB", keep_dtype=["*norm*", "*bias"], sync=True, overwrite=False, workers=None
    )
    expected = ["--input=in", "--output=out", "--shard-size=1.5GB", "--keep-dtype=*norm*", "--keep-dtype=*bias"]
    assert summary["arguments"] == ["convert", "--json", *expected, "--sync"]
    assert tensorport.verify("m", quick=True)["arguments"] == ["verify", "--json", "--model=m", "--quick"]
    assert tensorport.verify("m", "s")["arguments"] == ["verify", "--json", "--model=m", "--source=s"]


def test_a_failure_is_an_exception_with_what_was_said(fake_command: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(tensorport.CommandError, match="unlucky") as caught:
        tensorport.convert("in", "out", workers=13)
    assert caught.value.returncode == 3
    assert caught.value.summary is not None
    monkeypatch.setenv("TENSORPORT_BIN", str(fake_command) + "-gone")
    with pytest.raises(tensorport.CommandError, match="No such file"):
        tensorport.verify("m")
    monkeypatch.delenv("TENSORPORT_BIN")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(tensorport.CommandError, match="no command tensorport"):
        tensorport.verify("m")

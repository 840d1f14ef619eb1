# SPDX-License-Identifier: MIT
"""`convert --format safetensors`: the same tensors for every other tool, in the order and with the header that the
reference writer gives them. The oracle is the `safetensors` package, for files and for single tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from conftest import DTYPES, REFUSED, Raw, as_raw, random_array, run, small_floats, write_checkpoint, write_safetensors

Array = np.ndarray[Any, Any]
Convert = Callable[..., Path]
Tensor = tuple[str, tuple[int, ...], bytes]

INDEX = "model.safetensors.index.json"
FORMAT = ("--format", "safetensors")
KEEP = (*FORMAT, "--precision", "keep")


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def header_text(file: Path) -> str:
    """The header as it stands in the file, blanks included. Whatever holds for every header is checked here."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + size].decode()
    assert (8 + size) % 64 == 0, "the data begins at a multiple of 64 bytes"
    assert text.startswith("{")
    assert text.endswith("}" + " " * (len(text) - len(text.rstrip(" "))))
    assert len(text) - len(text.rstrip(" ")) < 64
    return text


def read(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder: dtype, shape and bytes, as the reference reader and the header itself give them."""
    tensors: dict[str, Tensor] = {}
    for file in shards(folder):
        header = json.loads(header_text(file))
        header.pop("__metadata__", None)
        end, last = 0, (len(DTYPES), b"")
        for name, entry in header.items():
            place = (list(DTYPES).index(entry["dtype"]), name.encode())
            assert place[0] < last[0] or place > last, f"{name} is out of order"
            assert entry["data_offsets"][0] == end
            end, last = entry["data_offsets"][1], place
        for name, view in safetensors.deserialize(file.read_bytes()):
            assert name not in tensors, f"{name} twice"
            assert tuple(header[name]["shape"]) == tuple(view["shape"])
            tensors[name] = (header[name]["dtype"], tuple(header[name]["shape"]), bytes(view["data"]))
    return tensors


def wanted(arrays: dict[str, Any]) -> dict[str, Tensor]:
    raws = {name: as_raw(array) for name, array in arrays.items()}
    return {name: (raw.dtype, tuple(raw.shape), raw.data or b"") for name, raw in raws.items()}


def every_dtype(rng: np.random.Generator) -> dict[str, Any]:
    """All 22, of several ranks, empty ones, and names that are hard to handle."""
    arrays: dict[str, Any] = {}
    for name in DTYPES:
        for shape in [(4,), (3, 4), (2, 0, 4), (2, 1, 3, 4)]:
            key = f"model.{name}.{'x'.join(map(str, shape))}"
            if name in REFUSED:
                size = prod(shape) * 6 // 8
                arrays[key] = Raw(name, shape, rng.bytes(size))
            else:
                arrays[key] = random_array(rng, name, shape)
    arrays["scalar"] = np.asarray(np.float32(1.5))
    arrays['模型."quoted".\\gewicht\u0308🙂'] = random_array(rng, "BF16", (3,))
    arrays["line\nfeed\x7f"] = random_array(rng, "U8", (3,))
    return arrays


def small_model(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "embed.weight": small_floats(rng, "BF16", (40, 16)),
        "layers.0.weight": small_floats(rng, "F32", (16, 16)),
        "layers.0.bias": small_floats(rng, "F32", (16,)),
        "layers.1.weight": small_floats(rng, "F16", (16, 16)),
        "step": np.asarray(np.int64(7)),
    }


# Values


@pytest.mark.parametrize("files", [1, 5])
def test_every_dtype_keeps_its_bytes(tmp_path: Path, rng: np.random.Generator, convert: Convert, files: int):
    arrays = every_dtype(rng)
    out = convert(write_checkpoint(tmp_path / "source", arrays, files, pad=3), *KEEP)
    assert [file.name for file in shards(out)] == ["model.safetensors"]
    assert not (out / INDEX).exists()
    assert read(out) == wanted(arrays)


def test_a_file_is_the_reference_writers_but_for_blanks(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    names = ("I64", "F64", "F32", "BF16", "F16", "I32", "U8", "I8", "BOOL", "U16")
    arrays = {f"{end}.{name}": random_array(rng, name, (3, 5)) for name in names for end in ("b", "a", "a-b", "B")}
    out = convert(write_checkpoint(tmp_path / "source", arrays), *KEEP)
    reference = safetensors.numpy.save(arrays, metadata={"format": "pt"})
    size = int.from_bytes(reference[:8], "little")
    text = header_text(out / "model.safetensors")
    assert text.rstrip(" ") == reference[8 : 8 + size].decode().rstrip(" ")
    assert (out / "model.safetensors").read_bytes()[8 + len(text.encode()) :] == reference[8 + size :]


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", "BF16"), ("float16", "F16"), ("float32", "F32")])
def test_floats_are_cast_as_for_the_other_formats(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, precision: str, dtype: str
):
    arrays = small_model(rng)
    out = convert(write_checkpoint(tmp_path / "source", arrays), *FORMAT, "--precision", precision)
    cast = {
        name: array if array.dtype == np.int64 else array.astype(DTYPES[dtype][1]) for name, array in arrays.items()
    }
    assert read(out) == wanted(cast)


def test_the_package_loads_the_output(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = small_model(rng)
    out = convert(write_checkpoint(tmp_path / "source", arrays), *FORMAT, "--precision", "float32")
    with safetensors.safe_open(out / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert sorted(file.keys()) == sorted(arrays)
        for name, array in arrays.items():
            expected = array if array.dtype == np.int64 else array.astype(np.float32)
            np.testing.assert_array_equal(file.get_tensor(name), expected)


# Names


def test_a_tree_makes_no_difference(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    """Names that no nested tree can have are names like any others here."""
    arrays = small_model(rng) | {"layers.0": small_floats(rng, "F32", (2,)), "a..b": small_floats(rng, "F32", (3,))}
    source = write_checkpoint(tmp_path / "source", arrays)
    flat, nested = (convert(source, *KEEP, "--tree", tree) / "model.safetensors" for tree in ("flat", "nested"))
    assert flat.read_bytes() == nested.read_bytes()
    assert read(flat.parent) == wanted(arrays)


def test_the_number_of_workers_makes_no_difference(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {f"layers.{n}.weight": random_array(rng, "F32", (500, 7 + n)) for n in range(40)}
    source = write_checkpoint(tmp_path / "source", arrays, 3)
    outs = [convert(source, *KEEP, "--workers", n, "--shard-size", "200KB") for n in (1, 5)]
    names = [[file.name for file in shards(out)] for out in outs]
    assert names[0] == names[1]
    assert len(names[0]) > 3
    for one, other in zip(shards(outs[0]), shards(outs[1]), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_header_of_megabytes_is_written_in_pieces(tmp_path: Path, convert: Convert):
    arrays = {f"model.layers.{n % 61}.mlp.experts.{n}.down_proj.weight": np.full(3, n, np.int16) for n in range(30_000)}
    out = convert(write_safetensors(tmp_path / "model.safetensors", arrays), *KEEP, "--workers", 3)
    assert len(header_text(out / "model.safetensors")) > 3_000_000
    assert read(out) == wanted(arrays)


def test_an_empty_checkpoint_is_an_empty_object(tmp_path: Path, convert: Convert):
    out = convert(write_safetensors(tmp_path / "model.safetensors", {}), *KEEP)
    assert (out / "model.safetensors").read_bytes() == (56).to_bytes(8, "little") + b"{}".ljust(56)


# Shards


@pytest.mark.parametrize("limit", [3000, 5000, 20_000])
def test_no_file_is_larger_than_the_shard_size_but_for_single_tensors(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, limit: int
):
    arrays = {f"layers.{n}.weight": small_floats(rng, "F32", rng.integers(1, 30, 2)) for n in range(60)}
    arrays["layers.30.huge"] = small_floats(rng, "BF16", (100, 300))
    out = convert(write_checkpoint(tmp_path / "source", arrays, 3), *KEEP, "--shard-size", f"{limit}B")
    files = shards(out)
    count = len(files)
    assert [file.name for file in files] == [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    for file in files:
        names = list(safetensors.safe_open(file, "numpy").keys())
        assert file.stat().st_size <= limit or len(names) == 1, names
    assert read(out) == wanted(arrays)


def test_the_index_is_as_transformers_writes_it(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = small_model(rng)
    out = convert(write_checkpoint(tmp_path / "source", arrays), *KEEP, "--shard-size", "1500B")
    weight_map = {
        name: file.name
        for file in shards(out)
        for name in safetensors.safe_open(file, "numpy").keys()  # noqa: SIM118
    }
    index = {
        "metadata": {"total_size": sum(array.nbytes for array in arrays.values())},
        "weight_map": weight_map,
    }
    assert len(set(weight_map.values())) > 1
    assert sorted(weight_map) == sorted(arrays)
    assert (out / INDEX).read_text() == json.dumps(index, indent=2, sort_keys=True) + "\n"


def test_the_output_converts_back_tensor_for_tensor(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = every_dtype(rng)
    source = write_checkpoint(tmp_path / "source", arrays, 2)
    first = convert(source, *KEEP, "--shard-size", "4000B")
    second = convert(first, *KEEP, "--shard-size", "4000B")
    assert read(first) == read(second) == wanted(arrays)


def test_a_tensor_above_the_shard_size_can_be_refused(tmp_path: Path, rng: np.random.Generator):
    source = write_checkpoint(tmp_path / "source", {"model.large": small_floats(rng, "F32", (100, 100))})
    options = ("--shard-size", "5000B", "--oversize", "error")
    done = run("convert", "-i", source, "-o", tmp_path / "out", *KEEP, *options, code=2)
    assert "model.large" in done.stderr
    assert "5000" in done.stderr
    assert not (tmp_path / "out").exists()


# __metadata__


def test_metadata_of_all_sources_is_united_and_the_first_wins(tmp_path: Path, convert: Convert):
    source = tmp_path / "source"
    source.mkdir()
    recipe = json.dumps({"text": "é\n" * 5000})
    metadata: list[dict[str, str] | None] = [
        {"z": "1", "format": "pt"},
        None,
        {"format": "np", "recipe": recipe, "z": "1"},
    ]
    for n, texts in enumerate(metadata):
        file = source / f"model-{n + 1:05d}-of-00003.safetensors"
        write_safetensors(file, {f"t{n}": np.full(3, n, np.float32)}, metadata=texts)
    done = run("convert", "-i", source, "-o", tmp_path / "out", *KEEP)
    header = json.loads(header_text(tmp_path / "out" / "model.safetensors"))
    assert list(header["__metadata__"].items()) == [("z", "1"), ("format", "pt"), ("recipe", recipe)]
    assert "'format' has another value in model-00003-of-00003.safetensors" in done.stdout + done.stderr


def test_without_metadata_in_the_source_there_is_none(tmp_path: Path, convert: Convert):
    out = convert(write_safetensors(tmp_path / "model.safetensors", {"a": np.zeros(3, np.float32)}), *KEEP)
    assert "__metadata__" not in header_text(out / "model.safetensors")


# Verifying


@pytest.mark.parametrize("shard_size", ["1GB", "4000B"])
def test_the_output_verifies_and_a_changed_byte_is_found(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, shard_size: str
):
    source = write_checkpoint(tmp_path / "source", every_dtype(rng))
    out = convert(source, *KEEP, "--shard-size", shard_size)
    run("verify", out)
    run("verify", out, "--source", source)
    file = shards(out)[0]
    whole = bytearray(file.read_bytes())
    for at in (8 + len(header_text(file)) - 1, len(whole) - 1):  # a blank of the header, a payload
        damaged = bytearray(whole)
        damaged[at] ^= 0x29 if damaged[at] == 0x20 else 1  # a blank becomes a tab
        file.write_bytes(damaged)
        assert file.name in run("verify", out, code=1).stdout
    file.write_bytes(whole)
    run("verify", out)


def test_flax_small_floats_are_refused_by_name(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    """Flax holds float4 one code a byte, which safetensors has no dtype for."""
    array = rng.integers(0, 16, 8).astype(np.uint8).view(ml_dtypes.float4_e2m1fn)
    flax = convert(write_checkpoint(tmp_path / "source", {"model.codes": array}), "--precision", "keep")
    done = run("convert", "-i", flax, "-o", tmp_path / "out", *KEEP, code=3)
    assert "model.codes" in done.stderr
    assert "float4_e2m1fn" in done.stderr

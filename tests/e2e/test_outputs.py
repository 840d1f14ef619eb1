# SPDX-License-Identifier: MIT
"""The promises, on the real command: what it writes is what Flax would write, and equals the source bit for bit.

Each test makes its own small checkpoint. Oracles are other people's code: flax.serialization for the container,
NumPy and ml_dtypes for values, and for NaN bits the rule of JAX, written out in `cast`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from flax.serialization import msgpack_restore, msgpack_serialize

import tensorport
from conftest import (
    DTYPES,
    REFUSED,
    Raw,
    command_path,
    pack_float4,
    random_array,
    run,
    small_floats,
    tree_bytes,
    write_checkpoint,
    write_safetensors,
)

Array = np.ndarray[Any, Any]
Convert = Callable[..., Path]

F16, F32, F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (F16, BF16, F32, F64)
PRECISIONS = {"float16": F16, "float32": F32, "bfloat16": BF16, "keep": None}
PARTS_KEY = "__tensorport_parts__"


# What must come out


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """The cast of NumPy and ml_dtypes, with NaN bits as JAX gives them."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.asarray(array.astype(dtype))
        nan = np.isnan(array)
    if nan.any():
        bits = result.view(f"u{dtype.itemsize}")
        bits[nan] = nan_bits(array[nan], dtype)
    return result


def nan_bits(array: Array, dtype: np.dtype[Any]) -> Array:
    """Payload bits are kept from the top and the quiet bit is set; bfloat16 is canonical, and widens unchanged."""
    source = ml_dtypes.finfo(array.dtype)
    target = ml_dtypes.finfo(dtype)
    bits = array.view(f"u{array.dtype.itemsize}").astype(np.uint64)
    sign = bits >> np.uint64(source.bits - 1) << np.uint64(target.bits - 1)
    payload = bits & np.uint64((1 << source.nmant) - 1)
    if dtype == BF16:
        return sign | np.uint64(0x7FC0)
    shift = target.nmant - source.nmant
    payload = payload << np.uint64(shift) if shift >= 0 else payload >> np.uint64(-shift)
    quiet = 0 if array.dtype == BF16 and dtype == F32 else 1 << (target.nmant - 1)
    exponent = ((1 << (target.bits - 1 - target.nmant)) - 1) << target.nmant
    return sign | np.uint64(exponent | quiet) | payload


def expected(arrays: dict[str, Array], precision: str = "float16") -> dict[str, Array]:
    """What convert makes of plain tensors."""
    dtype = PRECISIONS[precision]
    return {
        name: cast(array, dtype) if dtype is not None and array.dtype in FLOATS else array
        for name, array in arrays.items()
    }


# What did come out


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.msgpack"))


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Arrays of a restored tree; the parts of a split array as their dict."""
    for key, value in tree.items():
        if isinstance(value, dict) and PARTS_KEY not in value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def restore(folder: Path) -> dict[str, Array]:
    """What Flax alone makes of the folder: names with '/' between keys; parts joined, some still one-dimensional."""
    whole: dict[str, Array] = {}
    parts: dict[str, dict[int, Array]] = {}
    for file in shards(folder):
        for path, value in leaves(msgpack_restore(file.read_bytes())):
            name = "/".join(path)
            if isinstance(value, dict):
                numbers = parts.setdefault(name, {})
                for number, array in value[PARTS_KEY].items():
                    assert int(number) not in numbers, f"{name}: part {number} twice"
                    numbers[int(number)] = array
            else:
                assert name not in whole, f"{name} twice"
                whole[name] = value
    for name, numbers in parts.items():
        assert sorted(numbers) == list(range(len(numbers))), f"{name}: parts {sorted(numbers)}"
        whole[name] = np.concatenate([numbers[number] for number in range(len(numbers))])
    return whole


def assert_same(found: Any, wanted: Array, name: str) -> None:
    array = np.asarray(found)
    assert array.dtype == wanted.dtype, name
    assert array.shape == wanted.shape, name
    if array.tobytes() != wanted.tobytes():
        a, b = (x.reshape(-1).view(f"V{x.dtype.itemsize}") for x in (array, wanted))
        at = int(np.flatnonzero(a != b)[0])
        bits, right = (int.from_bytes(x[at].tobytes(), "little") for x in (a, b))
        pytest.fail(f"{name}: element {at} has bits {bits:#x}, expected {right:#x}")


def assert_output(folder: Path, wanted: dict[str, Array], separator: str = ".") -> None:
    """Flax and the loader both find exactly these arrays; every shard is what Flax would write; the manifest fits."""
    restored = restore(folder)
    assert sorted(restored) == sorted(name.replace(".", separator) for name in wanted)
    with jax.enable_x64(True):
        tree = tensorport.load(folder)
    loaded = {"/".join(path): array for path, array in leaves(tree)} if separator == "/" else tree
    for name, array in wanted.items():
        key = name.replace(".", separator)
        assert_same(np.asarray(restored[key]).reshape(array.shape), array, f"{name} by Flax")
        assert_same(loaded[key], array, f"{name} by the loader")
    for file in shards(folder):
        data = file.read_bytes()
        assert msgpack_serialize(msgpack_restore(data)) == data, f"{file.name} is not what Flax would write"
    assert_index(folder)


def assert_index(folder: Path) -> None:
    """One file: no index. Several: numbered, and the index says where each array is."""
    names = [file.name for file in shards(folder)]
    index = folder / "model.msgpack.index.json"
    if len(names) == 1:
        assert names == ["model.msgpack"]
        assert not index.exists()
        return
    count = len(names)
    assert names == [f"model-{number:05d}-of-{count:05d}.msgpack" for number in range(1, count + 1)]
    weight_map = json.loads(index.read_text())["weight_map"]
    where: dict[str, list[str]] = {}
    for file in shards(folder):
        for path, _ in leaves(msgpack_restore(file.read_bytes())):
            where.setdefault("/".join(path), []).append(file.name)
    assert weight_map == {name: files[0] if len(files) == 1 else files for name, files in where.items()}


def all_dtypes(rng: np.random.Generator, ranks: int = 9) -> dict[str, Array]:
    """Every dtype that can be converted in every rank, empty ones, and names that are hard to handle."""
    arrays = {}
    for name in DTYPES:
        if name in REFUSED:
            continue
        for rank in range(ranks):
            shape = tuple(rng.integers(1, 4, rank))
            if name == "F4":  # the file's bytes hold two each
                shape = (*shape[:-1], 2) if rank else (2,)
            arrays[f"model.{name}.rank{rank}"] = random_array(rng, name, shape)
        arrays[f"model.{name}.empty"] = random_array(rng, name, (2, 0, 4))
        arrays[f"模型.{name}.gewicht\u0308🙂"] = random_array(rng, name, (1, 2))
    for name in ("F16", "BF16"):
        patterns = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[name][1])
        arrays[f"every.{name}"] = patterns.reshape(256, 256)
    arrays["many.F32"] = random_array(rng, "F32", (50_000,))
    arrays["many.F64"] = random_array(rng, "F64", (20_000,))
    return arrays


def small_model(rng: np.random.Generator, rows: int = 40) -> dict[str, Array]:
    return {
        "embed.weight": small_floats(rng, "BF16", (rows, 16)),
        "layers.0.weight": small_floats(rng, "F32", (16, 16)),
        "layers.0.bias": small_floats(rng, "F32", (16,)),
        "layers.1.weight": small_floats(rng, "F16", (16, 16)),
        "step": np.asarray(np.int64(7)),
    }


@pytest.fixture
def model(rng: np.random.Generator) -> dict[str, Array]:
    return small_model(rng)


@pytest.fixture
def source(tmp_path: Path, model: dict[str, Array]) -> Path:
    """`model`, written."""
    return write_checkpoint(tmp_path / "source", model)


# Values


def test_the_rule_for_nan_bits_is_the_written_one():
    """Examples of the rule, so that the oracle itself is tested."""
    for bits, source, target, wanted in [
        (0x7F81, BF16, F16, 0x7E08),
        (0x7F800001, F32, F16, 0x7E00),
        (0x7F81, BF16, F32, 0x7F810000),
        (0xFF81, BF16, F16, 0xFE08),
        (0xFF800001, F32, BF16, 0xFFC0),
        (0x7C01, F16, F32, 0x7FC02000),
        (0xFC01, F16, BF16, 0xFFC0),
        (0x7FF0000000000001, F64, F32, 0x7FC00000),
        (0xFFF4000000000000, F64, F16, 0xFF00),
    ]:
        array = np.array([bits], f"u{source.itemsize}").view(source)
        assert cast(array, target).view(f"u{target.itemsize}")[0] == wanted, f"{bits:x} {source} -> {target}"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tree", ["flat", "nested"])
def test_every_dtype_and_rank_equals_the_cast_of_its_source(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, precision: str, tree: str
):
    arrays = all_dtypes(rng)
    folder = write_checkpoint(tmp_path / "source", arrays, pad=3)
    out = convert(folder, "--precision", precision, "--tree", tree, "--on-overflow", "inf")
    assert_output(out, expected(arrays, precision), "/" if tree == "nested" else ".")


@pytest.mark.parametrize("files", [1, 7, 50])
def test_the_number_of_source_files_does_not_matter(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, files: int
):
    arrays = all_dtypes(rng, ranks=3)
    folder = write_checkpoint(tmp_path / "source", arrays, files, pad=1)
    out = convert(folder, "--on-overflow", "inf", "--shard-size", "60KB")
    assert len(shards(out)) > 3
    assert_output(out, expected(arrays))


def test_a_single_safetensors_file_can_be_the_input(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = small_model(rng)
    file = write_safetensors(tmp_path / "weights.safetensors", arrays)
    assert_output(convert(file), expected(arrays))


def test_a_file_of_the_current_folder_can_be_the_input(source: Path, tmp_path: Path):
    run("convert", "-i", "model.safetensors", "-o", tmp_path / "out", cwd=source)
    run("verify", "--model", tmp_path / "out", "--source", source)


@pytest.mark.parametrize("tree", ["flat", "nested"])
def test_a_single_shard_is_byte_for_byte_what_flax_writes(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, tree: str
):
    arrays = all_dtypes(rng)
    out = convert(write_checkpoint(tmp_path / "source", arrays), "--precision", "keep", "--tree", tree)
    wanted: dict[str, Any] = {}
    for name, array in arrays.items():
        node = wanted
        *keys, last = name.split(".") if tree == "nested" else [name]
        for key in keys:
            node = node.setdefault(key, {})
        node[last] = array
    assert (out / "model.msgpack").read_bytes() == msgpack_serialize(wanted)


def test_a_checkpoint_without_tensors_becomes_an_empty_tree(tmp_path: Path, convert: Convert):
    out = convert(write_safetensors(tmp_path / "model.safetensors", {}))
    assert (out / "model.msgpack").read_bytes() == msgpack_serialize({})
    assert tensorport.load(out) == {}


@pytest.mark.parametrize("name", REFUSED)
def test_six_bit_floats_are_refused_by_name(tmp_path: Path, name: str):
    file = write_safetensors(tmp_path / "model.safetensors", {"model.strange.weight": Raw(name, (4,), bytes(3))})
    done = run("convert", "-i", file, "-o", tmp_path / "out", code=3)
    assert "model.strange.weight" in done.stderr
    assert name in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_old_spelling_works(source: Path, tmp_path: Path):
    options = ["--shard-size", "1.8", "--precision", "float16", "--workers", "8"]
    run("convert", "--input", source, "--output", tmp_path / "out", *options)
    assert (tmp_path / "out" / "manifest.json").exists()


# Shards and parts


@pytest.mark.parametrize("limit", [1500, 2000, 5000, 20_000])
@pytest.mark.parametrize("tree", ["flat", "nested"])
def test_no_file_is_larger_than_the_shard_size(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, limit: int, tree: str
):
    arrays = {f"layers.{n}.weight": small_floats(rng, "F32", rng.integers(1, 30, 2)) for n in range(60)}
    out = convert(write_checkpoint(tmp_path / "source", arrays, 3), "--shard-size", f"{limit}B", "--tree", tree)
    sizes = [file.stat().st_size for file in shards(out)]
    assert max(sizes) <= limit
    assert len(sizes) > 1
    assert_output(out, expected(arrays), "/" if tree == "nested" else ".")


def test_an_array_above_the_shard_size_is_split_into_rows(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {
        "a": small_floats(rng, "BF16", (1001, 7)),
        "rows.too.long": small_floats(rng, "F32", (3, 5001)),
        "ids": np.arange(4000, dtype=np.int64).reshape(2, 2000),
        "z": small_floats(rng, "F16", (10,)),
    }
    out = convert(write_checkpoint(tmp_path / "source", arrays), "--shard-size", "4000B", "--workers", 3)
    assert max(file.stat().st_size for file in shards(out)) <= 4000
    assert_output(out, expected(arrays))
    restored = restore(out)
    assert restored["a"].shape == (1001, 7), "parts are whole rows"
    assert restored["rows.too.long"].shape == (3 * 5001,), "parts of a row are one-dimensional"
    rows = {tuple(row["path"]): row for row in json.loads((out / "manifest.json").read_text())["arrays"]}
    assert rows[("rows.too.long",)]["shape"] == [3, 5001]
    assert len(rows[("a",)]["extents"]) > 3


@pytest.mark.parametrize("shape", [(334, 3), (2, 1501), (6004,), (998, 3, 1)])
def test_packed_codes_are_split_at_either_of_a_byte(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, shape: tuple[int, ...]
):
    arrays = {"codes": random_array(rng, "F4", shape)}
    folder = write_checkpoint(tmp_path / "source", arrays)
    for limit in range(1000, 1010):
        out = convert(folder, "--shard-size", f"{limit}B")
        joined = restore(out)["codes"].reshape(shape)
        assert joined.tobytes() == arrays["codes"].tobytes()
        run("verify", "--model", out, "--source", folder)


def test_oversize_own_shard_keeps_arrays_whole(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {"a": small_floats(rng, "F16", (8,)), "big": small_floats(rng, "F16", (999, 7)), "c": np.int8([1])}
    out = convert(write_checkpoint(tmp_path / "source", arrays), "--shard-size", "4000B", "--oversize", "own-shard")
    assert_output(out, arrays)
    over = [file for file in shards(out) if file.stat().st_size > 4000]
    assert len(over) == 1
    assert list(msgpack_restore(over[0].read_bytes())) == ["big"]


def test_oversize_error_names_the_array(tmp_path: Path, rng: np.random.Generator):
    folder = write_checkpoint(tmp_path / "source", {"a": np.int8([1]), "big.one": small_floats(rng, "F16", (999, 7))})
    options = ["--shard-size", "4000B", "--oversize", "error"]
    done = run("convert", "-i", folder, "-o", tmp_path / "out", *options, code=None)
    assert done.returncode in (2, 3, 5)
    assert "big.one" in done.stderr
    assert not (tmp_path / "out").exists()


def test_workers_memory_and_cpu_do_not_change_a_byte(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = all_dtypes(rng, ranks=4)
    folder = write_checkpoint(tmp_path / "source", arrays, 3)
    options = ["--shard-size", "100KB", "--on-overflow", "inf"]
    first = tree_bytes(convert(folder, *options, "--workers", 1))
    for workers in (2, 3):
        assert tree_bytes(convert(folder, *options, "--workers", workers)) == first
    assert tree_bytes(convert(folder, *options, "--workers", 2, "--max-memory", "40MB")) == first
    run("convert", "-i", folder, "-o", tmp_path / "scalar", *options, env={**os.environ, "TENSORPORT_CPU": "scalar"})
    assert tree_bytes(tmp_path / "scalar") == first


@pytest.mark.long
@pytest.mark.parametrize("limit", ["6GB", "1.5GB"])
def test_arrays_above_2_to_the_30_bytes_are_chunked_as_flax_does(tmp_path: Path, convert: Convert, limit: str):
    size = (2 << 30) + 12_345
    file = write_safetensors(tmp_path / "model.safetensors", {"big": Raw("U8", (size,)), "a": np.int16([1, 2])})
    marks = {0: 1, (1 << 30) - 1: 2, 1 << 30: 3, 1_499_999_000: 4, (2 << 30) - 1: 5, 2 << 30: 6, size - 1: 7}
    start = header_end(file)
    with file.open("r+b") as data:
        for at, value in marks.items():
            data.seek(start + at)
            data.write(bytes([value]))
    out = convert(file, "--shard-size", limit)
    for array in (restore(out)["big"], np.asarray(tensorport.load(out, names="big")["big"])):
        assert array.shape == (size,)
        assert {at: int(array[at]) for at in marks} == marks
        assert np.count_nonzero(array) == len(marks)
    for shard in shards(out):
        data = shard.read_bytes()
        assert msgpack_serialize(msgpack_restore(data)) == data
    run("verify", "--model", out, "--source", file)


def header_end(file: Path) -> int:
    with file.open("rb") as data:
        return 8 + int.from_bytes(data.read(8), "little")


@pytest.mark.long
def test_100_000_tensors(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    values = small_floats(rng, "BF16", (100_000, 4, 2))
    arrays = {f"model.layers.{n // 100}.experts.{n % 100}.weight": values[n] for n in range(100_000)}
    out = convert(write_checkpoint(tmp_path / "source", arrays, 50), "--shard-size", "3MB")
    assert max(file.stat().st_size for file in shards(out)) <= 3_000_000
    assert_output(out, expected(arrays))


# What is cast, and what is not


def test_keep_dtype_exempts_what_its_globs_name(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {f"layers.{n}.{what}": small_floats(rng, "F32", (4,)) for n in range(3) for what in ("norm", "weight")}
    folder = write_checkpoint(tmp_path / "source", arrays)
    out = convert(folder, "--keep-dtype", "*.norm", "--keep-dtype", "layers.[12].*")
    assert_output(out, arrays | {"layers.0.weight": cast(arrays["layers.0.weight"], F16)})


def test_include_and_exclude_choose_tensors(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {f"layers.{n}.{what}": small_floats(rng, "F16", (4,)) for n in range(3) for what in ("norm", "weight")}
    folder = write_checkpoint(tmp_path / "source", arrays)
    out = convert(folder, "--include", "layers.0.*", "--include", "*.1.*", "--exclude", "*norm")
    assert_output(out, {name: arrays[name] for name in ("layers.0.weight", "layers.1.weight")})
    run("verify", "--model", out, "--source", folder)


@pytest.mark.parametrize("option", ["--include", "--exclude", "--keep-dtype"])
def test_a_glob_that_matches_nothing_is_an_error(source: Path, tmp_path: Path, option: str):
    done = run("convert", "-i", source, "-o", tmp_path / "out", option, "nothing*", code=2)
    assert "nothing*" in done.stderr
    assert not (tmp_path / "out").exists()


def quantised_groups(rng: np.random.Generator) -> dict[str, Array]:
    """Codes with scales of floating dtypes, which no precision may touch, and a bias beside them, which it may."""
    return {
        "moe.experts.up_blocks": random_array(rng, "U8", (2, 4, 3, 16)),
        "moe.experts.up_scales": random_array(rng, "U8", (2, 4, 3)),
        "fp8.weight": random_array(rng, "F8_E4M3", (128, 128)),
        "fp8.weight_scale_inv": small_floats(rng, "F32", (1, 1)),
        "channel.weight": random_array(rng, "F8_E4M3", (8, 4)),
        "channel.weight_scale": small_floats(rng, "BF16", (8, 1)),
        "gptq.qweight": random_array(rng, "I32", (4, 8)),
        "gptq.qzeros": random_array(rng, "I32", (1, 1)),
        "gptq.scales": small_floats(rng, "F32", (1, 8)),
        "gptq.g_idx": random_array(rng, "I32", (32,)),
        "bnb.weight": random_array(rng, "U8", (64, 1)),
        "bnb.weight.absmax": small_floats(rng, "F32", (2,)),
        "bnb.weight.quant_map": small_floats(rng, "F32", (16,)),
        "bnb.weight.quant_state.bitsandbytes__nf4": random_array(rng, "U8", (80,)),
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_quantised_groups_pass_through_whole(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, precision: str
):
    codes = quantised_groups(rng)
    plain = {"norm.weight": small_floats(rng, "F32", (8,)), "gptq.bias": small_floats(rng, "F32", (8,))}
    folder = write_checkpoint(tmp_path / "source", codes | plain)
    out = convert(folder, "--precision", precision)
    assert_output(out, codes | expected(plain, precision))
    groups = {row["path"][0]: row.get("group") for row in json.loads((out / "manifest.json").read_text())["arrays"]}
    assert [name for name, group in groups.items() if not group] == [name for name in groups if name in plain]


def test_half_of_a_quantised_group_cannot_be_chosen(tmp_path: Path, rng: np.random.Generator):
    folder = write_checkpoint(tmp_path / "source", quantised_groups(rng))
    done = run("convert", "-i", folder, "-o", tmp_path / "out", "--exclude", "gptq.scales", code=2)
    assert "gptq" in done.stderr
    run("convert", "-i", folder, "-o", tmp_path / "out", "--exclude", "gptq.*")


def test_compat_stores_recent_dtypes_as_uint8(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    recent = {name: random_array(rng, name, (3, 4)) for name in ("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4")}
    older = {name: random_array(rng, name, (3, 4)) for name in ("F8_E4M3", "F8_E5M2", "U8")}
    folder = write_checkpoint(tmp_path / "source", recent | older)
    out = convert(folder, "--compat")
    packed = np.frombuffer(pack_float4(recent["F4"]), np.uint8).reshape(3, 2)
    stored = {name: array.view(np.uint8) for name, array in recent.items()} | {"F4": packed}
    assert_output(out, stored | older)
    views = tensorport.load(out, views=True)
    for name, array in (recent | older).items():
        assert_same(views[name], array, name)
    run("verify", "--model", out, "--source", folder)


def test_verify_compares_what_only_the_manifest_says(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {
        "flat": small_floats(rng, "F16", (2, 3000)),
        "scale": random_array(rng, "F8_E8M0", (4, 4)),
        "codes": random_array(rng, "F4", (4, 4)),
    }
    folder = write_checkpoint(tmp_path / "source", arrays)
    out = convert(folder, "--compat", "--shard-size", "2000B")
    text = (out / "manifest.json").read_text()
    run("verify", "--model", out, "--source", folder)
    for said, lie in [
        ('"shape":[2,3000]', '"shape":[3000,2]'),
        ('"view":"float8_e8m0fnu"', '"view":"float8_e4m3fnuz"'),
        (',"view":"float4_e2m1fn"', ""),
    ]:
        assert said in text
        (out / "manifest.json").write_text(text.replace(said, lie))
        run("verify", "--model", out, "--source", folder, code=1)


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_packed_codes_go_on_behind_a_full_buffer(tmp_path: Path, before: int):
    """Two codes a byte, more than are written at once, wherever in the file they begin."""
    rng = np.random.default_rng(before)
    arrays = {"a": np.zeros(before, np.uint8), "codes": random_array(rng, "F4", (700, 1000))}
    write_checkpoint(tmp_path / "in", arrays)
    run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert_output(tmp_path / "out", arrays)


def test_compat_refuses_packed_codes_with_an_odd_last_axis(tmp_path: Path):
    file = write_safetensors(tmp_path / "model.safetensors", {"odd.codes": Raw("F4", (2, 3), b"\x21\x43\x65")})
    done = run("convert", "-i", file, "-o", tmp_path / "out", "--compat", code=3)
    assert "odd.codes" in done.stderr
    run("convert", "-i", file, "-o", tmp_path / "out")
    assert_output(tmp_path / "out", {"odd.codes": np.uint8([[1, 2, 3], [4, 5, 6]]).view(DTYPES["F4"][1])})


def test_odd_bytes_of_bool_are_copied_counted_and_said(tmp_path: Path, convert: Convert):
    data = bytes([0, 1, 2, 255, 1])
    file = write_safetensors(tmp_path / "model.safetensors", {"odd.mask": Raw("BOOL", (5,), data), "ok": np.bool_([1])})
    done = run("convert", "-i", file, "-o", tmp_path / "out")
    assert msgpack_restore((tmp_path / "out" / "model.msgpack").read_bytes())["odd.mask"].tobytes() == data
    line = next(line for line in (done.stdout + done.stderr).splitlines() if "odd.mask" in line)
    assert "2" in line


# Overflow and statistics


def overflowing(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "fits": small_floats(rng, "F32", (64,)),
        "masked.bias": np.asarray(np.float32(-1e9)),
        "two": np.array([70000.0, 1.0, -1e6, np.inf, np.nan], BF16),
        "wide": np.array([1e300, 65519.0, 65520.0, -0.0], np.float64),
    }


def test_overflow_is_an_error_that_lists_every_tensor(tmp_path: Path, rng: np.random.Generator):
    folder = write_checkpoint(tmp_path / "source", overflowing(rng))
    done = run("convert", "-i", folder, "-o", tmp_path / "out", code=3)
    assert all(name in done.stderr for name in ("masked.bias", "two", "wide"))
    assert "fits" not in done.stderr
    assert "--on-overflow saturate" in done.stderr
    assert set(os.listdir(tmp_path)) <= {"source", "out.tensorport-partial"}
    run("convert", "-i", folder, "-o", tmp_path / "out", "--resume", "--on-overflow", "saturate")
    assert set(os.listdir(tmp_path)) == {"source", "out"}


def test_overflow_can_saturate_or_become_infinite(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = overflowing(rng)
    folder = write_checkpoint(tmp_path / "source", arrays)
    infinite = expected(arrays)
    out = convert(folder, "--on-overflow", "inf")
    assert_output(out, infinite)
    run("verify", "--model", out, "--source", folder)
    saturated = {
        name: np.where(np.isinf(array) & np.isfinite(arrays[name]), np.copysign(F16.type(65504), array), array)
        if array.dtype == F16
        else array
        for name, array in infinite.items()
    }
    out = convert(folder, "--on-overflow", "saturate")
    assert_output(out, saturated)
    run("verify", "--model", out, "--source", folder)
    rows = {row["path"][0]: row["stats"] for row in json.loads((out / "manifest.json").read_text())["arrays"]}
    assert {name: row["overflowed"] for name, row in rows.items()} == {"fits": 0, "masked.bias": 1, "two": 2, "wide": 2}


@pytest.mark.parametrize("precision", PRECISIONS)
@np.errstate(invalid="ignore")  # comparing signalling NaN
def test_statistics_in_the_manifest_are_those_of_the_source(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, precision: str
):
    arrays = {f"{name}.random": random_array(rng, name, (3000,)) for name in ("F16", "BF16", "F32", "F64")}
    for name in ("F32", "BF16"):
        arrays[f"{name}.small"] = small_floats(rng, name, (500,)) * DTYPES[name][1].type(1e-7)
    arrays |= {"none": np.array([np.nan, np.inf], F32), "empty": np.zeros((0, 3), F32), "zero": np.array([-0.0], F16)}
    out = convert(write_checkpoint(tmp_path / "source", arrays), "--precision", precision, "--on-overflow", "inf")
    for row in json.loads((out / "manifest.json").read_text())["arrays"]:
        array = arrays[row["path"][0]]
        result = cast(array, PRECISIONS[precision] or array.dtype)
        finite = array[np.isfinite(array)].astype(np.float64)
        assert row["stats"] == {
            "min": float(finite.min()) + 0.0 if finite.size else None,
            "max": float(finite.max()) + 0.0 if finite.size else None,
            "nan": int(np.isnan(array).sum()),
            "inf": int(np.isinf(array).sum()),
            "overflowed": int((np.isfinite(array) & np.isinf(result)).sum()),
            "flushed": int(((array != 0) & (result == 0)).sum()),
        }, row["path"]


# The output folder


def test_side_files_come_along(source: Path, tmp_path: Path, convert: Convert):
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        (source / name).write_text(json.dumps({"name": name}))
    (source / "secret.bin").write_text("x")
    out = convert(source)
    assert json.loads((out / "config.json").read_text()) == {"name": "config.json"}
    assert (out / "tokenizer.json").exists()
    assert not (out / "secret.bin").exists()
    assert "*.msgpack" in (out / ".gitattributes").read_text()
    run("verify", "--model", out)


def test_sha256sums_are_those_of_the_files(source: Path, convert: Convert):
    out = convert(source, "--sha256", "--shard-size", "1500B")
    lines = (out / "SHA256SUMS").read_text().splitlines()
    listed = {line.split(maxsplit=1)[1].lstrip("*"): line.split()[0] for line in lines}
    assert set(listed) >= {file.name for file in shards(out)}
    for name, digest in listed.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    run("verify", "--model", out)


def test_dry_run_writes_nothing_and_lists_everything(source: Path, tmp_path: Path, model: dict[str, Array]):
    done = run("convert", "-i", source, "-o", tmp_path / "out", "--dry-run")
    assert all(name in done.stdout for name in model)
    assert os.listdir(tmp_path) == ["source"]
    plan = json.loads(run("convert", "-i", source, "-o", tmp_path / "out", "--dry-run", "--json").stdout)
    assert isinstance(plan, dict)


def test_the_summary_is_json_on_request(source: Path, tmp_path: Path):
    done = run("convert", "-i", source, "-o", tmp_path / "out", "--json")
    summary = json.loads(done.stdout)
    assert summary["arrays"] == 5
    assert isinstance(json.loads(run("verify", "--model", tmp_path / "out", "--json").stdout), dict)


def test_the_python_front_runs_the_command(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TENSORPORT_BIN", str(command_path()))
    summary = tensorport.convert(source, tmp_path / "out", precision="keep", keep_dtype=["embed*"], workers=1)
    assert summary["arrays"] == 5
    tensorport.verify(tmp_path / "out", source)
    flip(shards(tmp_path / "out")[0], -1)
    with pytest.raises(tensorport.CommandError, match="model.msgpack: array") as caught:
        tensorport.verify(tmp_path / "out")
    assert caught.value.returncode == 1
    assert caught.value.summary is not None
    assert caught.value.summary["difference_count"] == 1
    with pytest.raises(tensorport.CommandError, match="precision") as caught:
        tensorport.convert(source, tmp_path / "out2", precision="float13")
    assert caught.value.returncode == 2


def test_an_existing_output_is_refused_and_kept(source: Path, tmp_path: Path, convert: Convert):
    out = convert(source)
    before = tree_bytes(out)
    done = run("convert", "-i", source, "-o", out, "--precision", "keep", code=2)
    assert "--overwrite" in done.stderr
    assert tree_bytes(out) == before
    (tmp_path / "file").write_text("x")
    run("convert", "-i", source, "-o", tmp_path / "file", code=2)
    run("convert", "-i", source, "-o", tmp_path / "file", "--overwrite", code=2)
    assert (tmp_path / "file").read_text() == "x"


def test_overwrite_replaces_our_files_and_no_others(source: Path, convert: Convert, model: dict[str, Array]):
    out = convert(source, "--shard-size", "1500B")
    assert len(shards(out)) > 1
    (out / "notes.txt").write_text("mine")
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("ref")
    run("convert", "-i", source, "-o", out, "--overwrite", "--precision", "bfloat16")
    assert_output(out, expected(model, "bfloat16"))
    assert [file.name for file in shards(out)] == ["model.msgpack"]
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / ".git" / "HEAD").read_text() == "ref"
    assert not (out / ".tensorport-partial").exists()
    run("verify", "--model", out, "--source", source)


def test_a_foreign_folder_is_never_touched(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    (out / "manifest.json").write_text('{"format": "something else"}')
    for options in ([], ["--overwrite"]):
        run("convert", "-i", source, "-o", out, *options, code=2)
        assert sorted(tree_bytes(out)) == ["manifest.json", "thesis.tex"]


def test_an_empty_folder_is_filled(source: Path, tmp_path: Path, model: dict[str, Array]):
    out = tmp_path / "out"
    out.mkdir()
    inode = out.stat().st_ino
    run("convert", "-i", source, "-o", out)
    assert_output(out, expected(model))
    assert out.stat().st_ino == inode, "it may be a mount point"
    assert not (out / ".tensorport-partial").exists()


def test_an_unfinished_folder_is_refused_by_name(source: Path, tmp_path: Path):
    partial = tmp_path / "out.tensorport-partial"
    partial.mkdir()
    (partial / "model.msgpack").write_bytes(b"half")
    done = run("convert", "-i", source, "-o", tmp_path / "out", code=2)
    assert "out.tensorport-partial" in done.stderr
    assert (partial / "model.msgpack").read_bytes() == b"half"


@pytest.mark.parametrize("where", ["beside", "inside"])
def test_an_unfinished_folder_without_a_file_is_taken_over(source: Path, tmp_path: Path, where: str):
    """What a kill leaves behind just before the first file, or after the last."""
    out = tmp_path / "out"
    (out / ".tensorport-partial" if where == "inside" else tmp_path / "out.tensorport-partial").mkdir(parents=True)
    run("convert", "-i", source, "-o", out, code=2)
    run("convert", "-i", source, "-o", out, "--overwrite")
    run("verify", "--model", out, "--source", source)
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]
    assert not (out / ".tensorport-partial").exists()


def test_names_that_are_leaf_and_node_are_refused_when_nested(tmp_path: Path):
    arrays = {"a": np.int8([1]), "a.b": np.int8([2]), "c..d": np.int8([3])}
    folder = write_checkpoint(tmp_path / "source", arrays)
    done = run("convert", "-i", folder, "-o", tmp_path / "out", "--tree", "nested", code=3)
    assert "a.b" in done.stderr or "c..d" in done.stderr
    run("convert", "-i", folder, "-o", tmp_path / "out", "--tree", "flat")
    assert_output(tmp_path / "out", arrays)


# Killed, and the source


def half_way_process(source: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [command_path(), "convert", "-i", source, "-o", out, *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_while_it_writes_nothing_looks_finished(tmp_path: Path):
    file = write_safetensors(tmp_path / "model.safetensors", {f"t{n}": Raw("F32", (1 << 20,)) for n in range(100)})
    out = tmp_path / "out"
    for _ in range(10):  # on a busy machine it may be finished before it is killed
        shutil.rmtree(out, ignore_errors=True)
        process = half_way_process(file, out, "--workers", "1")
        while process.poll() is None and not list(tmp_path.glob("out.tensorport-partial/*.msgpack")):
            time.sleep(0.001)
        process.kill()
        if process.wait() == -signal.SIGKILL and not out.exists():
            break
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    partial = tmp_path / "out.tensorport-partial"
    assert partial.exists()
    assert not (partial / "manifest.json").exists()
    run("verify", "--model", partial, code=2)
    done = run("convert", "-i", file, "-o", out, code=2)
    assert "out.tensorport-partial" in done.stderr
    run("convert", "-i", file, "-o", out, "--overwrite")
    run("verify", "--model", out)
    assert not partial.exists()


def test_killed_at_any_instant_the_output_is_whole_or_absent(tmp_path: Path, rng: np.random.Generator):
    arrays = {f"t{n}": small_floats(rng, "F32", (256, 64)) for n in range(200)}
    folder = write_checkpoint(tmp_path / "source", arrays, 3)
    out = tmp_path / "out"
    start = time.monotonic()
    run("convert", "-i", folder, "-o", out, "--shard-size", "500KB")
    usual = time.monotonic() - start
    for step in range(20):  # the first ten: to a new folder; then over the old one, with a file that is not ours
        over = step >= 10
        if not over:
            shutil.rmtree(out, ignore_errors=True)
        elif step == 10:
            run("convert", "-i", folder, "-o", out, "--overwrite")
            (out / "notes.txt").write_text("mine")
        process = half_way_process(folder, out, "--overwrite", "--shard-size", f"{500 + step}KB")
        time.sleep(usual * (step % 10) / 9)
        process.kill()
        process.wait()
        if (out / "manifest.json").exists():
            run("verify", "--model", out, "--source", folder)
        else:
            assert over or not out.exists(), "a folder of the final name without a manifest"
    run("convert", "-i", folder, "-o", out, "--overwrite", "--shard-size", "300KB")
    assert_output(out, expected(arrays))
    assert (out / "notes.txt").read_text() == "mine"
    run("verify", "--model", out, "--source", folder)


def read_only_prefix(folder: Path) -> list[str]:
    """A command prefix that makes `folder` a read-only mount, for root, whom permissions do not stop."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/x" 2>/dev/null && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", script, str(folder)]
    if not shutil.which("unshare"):
        return []
    return [] if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode else prefix


def times(folder: Path) -> dict[Path, tuple[int, int]]:
    """When the folder and its files were last changed."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in (folder, *folder.iterdir())}


def test_the_source_is_never_written_to(tmp_path: Path, rng: np.random.Generator):
    folder = write_checkpoint(tmp_path / "source", small_model(rng), 3)
    (folder / "config.json").write_text("{}")
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    before = times(folder)
    content = tree_bytes(folder)
    command = [*read_only_prefix(folder), str(command_path())]
    try:
        for arguments in (["convert", "-i", folder, "-o", tmp_path / "out"], ["inspect", folder]):
            subprocess.run([*command, *arguments], check=True, capture_output=True)
        verify = ["verify", "--model", tmp_path / "out", "--source", folder]
        subprocess.run([*command, *verify], check=True, capture_output=True)
        assert times(folder) == before
        assert tree_bytes(folder) == content
    finally:
        folder.chmod(0o755)


# verify


def flip(file: Path, at: int, mask: int = 1) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= mask
    file.write_bytes(data)


@pytest.fixture
def output(source: Path, convert: Convert) -> Path:
    """A sharded output of `source`, with side files."""
    (source / "config.json").write_text("{}")
    return convert(source, "--shard-size", "1500B")


def differences(folder: Path, *options: object) -> str:
    """What verify says of a folder that must differ."""
    return run("verify", "--model", folder, *options, code=1).stdout


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    arrays = {"a.b": small_floats(rng, "F32", (3, 4)), "mask": np.bool_([1, 0]), "n": np.asarray(np.int64(5))}
    folder = write_checkpoint(tmp_path / "source", arrays)
    out = convert(folder)
    file = out / "model.msgpack"
    good = file.read_bytes()
    for at in range(len(good)):
        flip(file, at, 1 << at % 8)
        assert "model.msgpack" in differences(out), f"byte {at} of {len(good)}"
        file.write_bytes(good)
    run("verify", "--model", out)


def test_a_difference_names_file_and_array(output: Path):
    file = shards(output)[0]
    rows = json.loads((output / "manifest.json").read_text())["arrays"]
    extent = rows[0]["extents"][0]
    flip(file, extent["offset"] + extent["length"] - 1)
    said = differences(output)
    assert file.name in said
    assert rows[0]["path"][0] in said
    assert run("verify", "--model", output, "--quick").returncode == 0, "--quick does not read values"


@pytest.mark.parametrize("size", [0, 1, -1, 100])
def test_files_cut_or_grown_are_found(output: Path, size: int):
    file = shards(output)[1]
    old = file.stat().st_size
    os.truncate(file, size if size in (0, 1) else old + size)
    for options in ([], ["--quick"]):
        assert file.name in differences(output, *options)


def test_missing_and_extra_files_are_found(output: Path):
    file = shards(output)[1]
    data = file.read_bytes()
    file.unlink()
    assert file.name in differences(output)
    assert file.name in differences(output, "--quick")
    file.write_bytes(data)
    run("verify", "--model", output)
    (output / "model-00009-of-00009.msgpack").write_bytes(data)
    assert "model-00009-of-00009.msgpack" in differences(output)


def test_altered_side_files_and_indexes_are_found(output: Path):
    for name in ("config.json", "model.msgpack.index.json", ".gitattributes"):
        good = (output / name).read_bytes()
        (output / name).write_bytes(good.replace(b"{", b"{ ", 1) if b"{" in good else good + b"#\n")
        assert name in differences(output)
        (output / name).write_bytes(good)
    run("verify", "--model", output)


def test_a_manifest_that_does_not_fit_is_found(output: Path):
    path = output / "manifest.json"
    good = path.read_text()
    for old, new in [
        ('"dtype":"float16"', '"dtype":"bfloat16"'),
        ('["embed.weight"]', '["embed.weights"]'),
        ('"xxh3":["', '"xxh3":["0'),
        ('"version":1', '"version":99'),
        ('"arrays":[', '"arrays":[[],'),
        ("}", ""),
    ]:
        text = good.replace(old, new, 1)
        assert text != good, old
        path.write_text(text)
        assert "manifest" in run("verify", "--model", output, code=1).stdout, (old, new)
    path.write_text(good)
    run("verify", "--model", output)


def test_foreign_files_are_notes(output: Path):
    (output / "notes.txt").write_text("mine")
    done = run("verify", "--model", output)
    assert "notes.txt" in done.stdout + done.stderr
    (output / ".git").mkdir()
    run("verify", "--model", output)


@pytest.mark.parametrize(
    "options", ["", "--tree nested", "--precision keep", "--precision float32", "--compat", "--on-overflow saturate"]
)
def test_verify_re_derives_every_byte_from_the_source(
    tmp_path: Path, rng: np.random.Generator, convert: Convert, options: str
):
    arrays = all_dtypes(rng, ranks=3)
    folder = write_checkpoint(tmp_path / "source", arrays, 2)
    out = convert(folder, "--on-overflow", "inf", *options.split(), "--shard-size", "90KB")
    run("verify", "--model", out, "--source", folder)
    arrays["model.I32.rank1"] = arrays["model.I32.rank1"] + np.int32(1)
    other = write_checkpoint(tmp_path / "other", arrays, 2)
    done = run("verify", "--model", out, "--source", other, code=1)
    assert "model" in done.stdout
    assert "I32" in done.stdout


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tree", ["flat", "nested"])
def test_a_folder_that_flax_wrote_can_be_verified(tmp_path: Path, rng: np.random.Generator, precision: str, tree: str):
    arrays = {name: array for name, array in small_model(rng).items() if name != "step"} | {"ids.n": np.arange(5)}
    folder = write_checkpoint(tmp_path / "source", arrays)
    out = tmp_path / "flax"
    out.mkdir()
    wanted = expected(arrays, precision)

    def write(arrays: dict[str, Array]) -> None:
        for number, names in enumerate([list(arrays)[:2], list(arrays)[2:]]):
            root: dict[str, Any] = {}
            for name in names:
                node = root
                *keys, last = name.split(".") if tree == "nested" else [name]
                for key in keys:
                    node = node.setdefault(key, {})
                node[last] = arrays[name]
            (out / f"checkpoint-{number}.msgpack").write_bytes(msgpack_serialize(root))

    write(wanted)
    run("verify", "--model", out, "--source", folder)
    run("verify", "--model", out, code=2)
    changed = wanted["layers.0.weight"].copy()
    changed[3, 3] += 1
    write(wanted | {"layers.0.weight": changed})
    assert "layers" in run("verify", "--model", out, "--source", folder, code=1).stdout
    write({name: array for name, array in wanted.items() if name != "embed.weight"})
    assert "embed" in run("verify", "--model", out, "--source", folder, code=1).stdout


def test_verbose_shows_every_array(output: Path, model: dict[str, Array]):
    done = run("verify", "--model", output, "--verbose")
    assert all(name in done.stdout for name in model)


def test_verbose_shows_no_raw_bytes_of_file_names(output: Path):
    file = shards(output)[0]
    file.rename(output / "mo\x1b[31mdel.msgpack")
    manifest = output / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{file.name}"', '"mo\\u001b[31mdel.msgpack"'))
    done = run("verify", "--model", output, "--verbose")
    assert "\\x1b[31m" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_skip_verify_and_quiet_do_what_they_say(source: Path, tmp_path: Path):
    done = run("convert", "-i", source, "-o", tmp_path / "out", "--skip-verify", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    run("verify", "--model", tmp_path / "out", "--source", source)

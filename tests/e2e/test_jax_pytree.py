# SPDX-License-Identifier: MIT
"""`--format jax`: what jax's own pytree_serialization loads is the source bit for bit, and the files are those that jax
writes; and the way back, from directories that jax has saved.

Environment: TENSORPORT_EMIT_ORBAX is the program built from tests/unit/emit_orbax.c.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import tensorstore
from jax.experimental.array_serialization import pytree_serialization as jax_pytree
from jax.sharding import NamedSharding, SingleDeviceSharding
from orbax_readers import assert_tree, on_axis, tree_of
from test_orbax_layout import emit

import tensorport
from conftest import DTYPES, REFUSED, ROOT, random_array, run, tree_bytes, write_checkpoint

Array = np.ndarray[Any, Any]
Make = Callable[..., Path]

GOLDEN = ROOT / "tests" / "data" / "jax"
JAX = ("--format", "jax")
OUTPUTS: dict[str, tuple[str, ...]] = {
    "data files": (),
    "small chunks": ("--chunk-bytes", "2KiB"),
    "zero-copy": ("--zero-copy",),
    "zero-copy, small chunks": ("--zero-copy", "--chunk-bytes", "2KiB", "--min-chunk", "0"),
    "nested": ("--tree", "nested"),
    "lists": ("--tree", "lists"),
    "wrapped": ("--tree", "lists", "--wrap", "params/params", "--zero-copy"),
}


@pytest.fixture(scope="module", autouse=True)
def _wide() -> Iterator[None]:
    """JAX reads in threads of its own, which a context manager would not reach."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    """Every dtype, ranks 0 to 8, empty ones, zeros, names of all kinds, and sizes that are cut into chunks."""
    rng = np.random.default_rng(20261123)
    found = {f"dtypes.{name}": random_array(rng, name, (16, 8)) for name in DTYPES if name not in REFUSED}
    found |= {f"ranks.{rank}": random_array(rng, "I16", rng.integers(1, 4, rank)) for rank in range(9)}
    found |= {"empty.0": random_array(rng, "BF16", (0,)), "empty.1": random_array(rng, "F32", (3, 0, 2))}
    found |= {f"layers.{layer}.kernel": random_array(rng, "BF16", (8, 16)) for layer in range(12)}
    found["big.kernel"] = random_array(rng, "BF16", (1024, 1024))
    found["big.cube"] = random_array(rng, "F32", (8, 24, 4096))
    found["zeros"] = np.zeros((64, 8), np.float32)
    found["odd"] = random_array(rng, "BF16", (1031, 1033))
    names = ("with space/slash", "é模型", "quo'te\"s\\", "line\n\x7f", "😀", "ﾮ")
    return found | {name: random_array(rng, "U8", (3,)) for name in names}


@pytest.fixture(scope="module")
def source(arrays: dict[str, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files, their data at odd offsets."""
    folder = write_checkpoint(tmp_path_factory.mktemp("source"), arrays, 3, pad=5)
    (folder / "config.json").write_text('{"model_type": "toy"}')
    return folder


@pytest.fixture(scope="module")
def make(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Converts the source with the arguments given; the same again is not converted again."""
    made: dict[tuple[str, ...], Path] = {}

    def call(*arguments: str) -> Path:
        if arguments not in made:
            made[arguments] = tmp_path_factory.mktemp("out") / "model"
            run("convert", "-i", source, "-o", made[arguments], *JAX, *arguments)
        return made[arguments]

    return call


def tree_for(arrays: dict[str, Array], arguments: tuple[str, ...]) -> Any:
    """The tree that an output of OUTPUTS has."""
    value = dict(pairwise(arguments))
    return tree_of(arrays, value.get("--tree", "flat"), value.get("--wrap"))


def on_one_device() -> SingleDeviceSharding:
    return SingleDeviceSharding(jax.devices()[0])


def save(tree: Any, path: Path) -> Path:
    """As jax saves it, from one device."""
    jax_pytree.save(jax.tree.map(lambda leaf: jax.device_put(leaf, on_one_device()), tree), path)
    return path


def stored(path: Path) -> dict[str, bytes]:
    """All keys of a directory's database and what they hold, read by TensorStore."""
    kvstore = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{path / 'array_store'}/"}).result()
    return {key.decode(): bytes(kvstore[key]) for key in kvstore.list().result()}


# What jax loads


@pytest.mark.parametrize("output", OUTPUTS)
def test_jax_loads_every_output(output: str, make: Make, arrays: dict[str, Array]):
    assert_tree(
        jax_pytree.load(make(*OUTPUTS[output]), on_one_device()),
        tree_for(arrays, OUTPUTS[output]),
    )


@pytest.mark.parametrize("output", ["data files", "small chunks", "zero-copy, small chunks", "wrapped"])
@pytest.mark.parametrize("axis", [0, 1])
def test_jax_shards_every_output_over_eight_devices(output: str, axis: int, make: Make, arrays: dict[str, Array]):
    tree = tree_for(arrays, OUTPUTS[output])
    shardings = jax.tree.map(on_axis(axis), tree)
    found = jax_pytree.load(make(*OUTPUTS[output]), shardings)
    assert_tree(found, tree)
    for leaf, sharding in zip(jax.tree.leaves(found), jax.tree.leaves(shardings), strict=True):
        assert leaf.sharding == sharding
    kernel = found["params"]["params"]["big"]["kernel"] if output == "wrapped" else found["big.kernel"]
    assert len({str(shard.index) for shard in kernel.addressable_shards}) == 8


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_tree_is_byte_for_byte_what_jax_saves(output: str, make: Make, arrays: dict[str, Array], tmp_path: Path):
    path = make(*OUTPUTS[output])
    saved = save(tree_for(arrays, OUTPUTS[output]), tmp_path / "saved")
    assert (path / "pytreedef.json").read_bytes() == (saved / "pytreedef.json").read_bytes()
    ours, theirs = stored(path), stored(saved)
    metadata = {key for key in theirs if key.endswith("zarr.json")}
    assert {key for key in ours if key.endswith("zarr.json")} == metadata
    for key in metadata:
        chunks = [json.loads(store[key])["chunk_grid"]["configuration"]["chunk_shape"] for store in (ours, theirs)]
        assert chunks[0] != chunks[1] or ours[key] == theirs[key]
    if output == "nested":  # nothing but large arrays is in chunks
        same = {key for key in metadata if ours[key] == theirs[key]}
        assert len(metadata - same) == 2  # no power of two divides the third
        assert all(theirs[key] == ours[key] for key in theirs if f"{key.split('/')[0]}/zarr.json" in same)


def test_the_tree_can_be_read_without_the_arrays(make: Make, arrays: dict[str, Array], tmp_path: Path):
    shutil.copy(make("--tree", "lists") / "pytreedef.json", tmp_path)
    tree = jax_pytree.load_pytreedef(tmp_path)
    wanted = tree_of(arrays, "lists")
    assert jax.tree.structure(tree) == jax.tree.structure(wanted)
    for leaf, want in zip(jax.tree.leaves(tree), jax.tree.leaves(wanted), strict=True):
        assert (leaf.shape, leaf.dtype) == (want.shape, want.dtype)


ROWS = {
    "data": (),
    "data, small chunks": ("chunk=16",),
    "zero-copy": ("zero-copy",),
    "zero-copy, small chunks": ("zero-copy", "chunk=16"),
    "zero-copy, lists": ("zero-copy", "marked"),
    "zero-copy, ordered": ("zero-copy", "ordered"),
    "data, ordered": ("ordered",),
}


@pytest.mark.parametrize("mode", ROWS)
def test_rows_permutations_stacks_and_ties_are_loaded(mode: str, tmp_path: Path):
    expected = emit(tmp_path / "out", "jax", *ROWS[mode])
    if "ordered" in mode:
        tree: Any = OrderedDict((path[0], array) for path, array in expected.items())
    else:
        tree = {}
        for path, array in expected.items():
            node = tree
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = array
        if "lists" in mode:
            tree["layers"] = [tree["layers"][str(layer)] for layer in range(12)]
    assert_tree(jax_pytree.load(tmp_path / "out", on_one_device()), tree)
    saved = save(tree, tmp_path / "saved")
    assert (tmp_path / "out" / "pytreedef.json").read_bytes() == (saved / "pytreedef.json").read_bytes()


def test_zero_copy_copies_nothing(make: Make, source: Path, arrays: dict[str, Array]):
    path = make("--zero-copy")
    for file in source.glob("*.safetensors"):
        assert (path / "array_store" / file.name).samefile(file)
    assert {name for name in tree_bytes(path) if name.startswith("array_store/d/data")} == {
        "array_store/d/data-00001-of-00001"  # float4, whose codes are stored one a byte
    }
    assert (path / "array_store/d/data-00001-of-00001").stat().st_size == arrays["dtypes.F4"].size
    assert (path / "config.json").read_text() == '{"model_type": "toy"}'


def test_jax_does_not_overwrite_the_originals(make: Make, tmp_path: Path):
    path = tmp_path / "copy"
    shutil.copytree(make("--zero-copy"), path)
    with pytest.raises(Exception, match="not a previous checkpoint"):
        jax_pytree.save({"a": jax.device_put(np.zeros(3), on_one_device())}, path)
    run("verify", "--model", path)


# Maps

LAYERS = 11


def model(rng: np.random.Generator) -> dict[str, Array]:
    """Names that sort otherwise than they count."""
    found = {f"model.layers.{layer}.q.weight": random_array(rng, "BF16", (16, 48)) for layer in range(LAYERS)}
    found |= {f"model.layers.{layer}.norm.weight": random_array(rng, "BF16", (48,)) for layer in range(LAYERS)}
    return found | {"model.embed.weight": random_array(rng, "BF16", (64, 48))}


ORDERED = {
    "tensorport_map": 1,
    "sep": "",
    "order": "rules",
    "output": {"format": "jax"},
    "rules": [
        {"from": "model.layers.{l}.q.weight", "to": "weights.layers[{l}].q", "axes": "o i -> i o"},
        {"from": "model.layers.{l}.norm.weight", "to": "weights.layers[{l}].gamma"},
        {"from": "model.embed.weight", "to": "weights.embedding"},
    ],
}
LISTED = {
    "tensorport_map": 1,
    "output": {"format": "jax"},
    "dims": {"k": "4"},
    "rules": [
        {"from": "model.layers.{l}.q.weight", "to": "params/stack/q", "axes": "(h k) i -> i l h k"},
        {"from": "model.layers.{l}.norm.weight", "to": "params/layers/[{l}]/gamma"},
        {"from": "model.embed.weight", "to": "params/embedding", "axes": "v d -> d v"},
    ],
}


def mapped(document: dict[str, Any], arrays: dict[str, Array]) -> Any:
    """What the maps make of the model, in NumPy."""
    query = [arrays[f"model.layers.{layer}.q.weight"] for layer in range(LAYERS)]
    norm = [arrays[f"model.layers.{layer}.norm.weight"] for layer in range(LAYERS)]
    embedding = arrays["model.embed.weight"]
    if document is ORDERED:
        rows: list[tuple[str, Array]] = []
        for layer in range(LAYERS):
            rows += [(f"weights.layers[{layer}].q", query[layer].T), (f"weights.layers[{layer}].gamma", norm[layer])]
        return OrderedDict([*rows, ("weights.embedding", embedding)])
    stack = np.stack([array.reshape(4, 4, 48).transpose(2, 0, 1) for array in query], axis=1)
    return {"params": {"stack": {"q": stack}, "layers": [{"gamma": array} for array in norm], "embedding": embedding.T}}


@pytest.mark.parametrize("options", [(), ("--chunk-bytes", "1KiB"), ("--zero-copy", "--min-chunk", "0")])
@pytest.mark.parametrize("document", [ORDERED, LISTED], ids=["ordered", "listed"])
def test_a_map_says_order_and_lists(
    document: dict[str, Any], options: tuple[str, ...], tmp_path: Path, rng: np.random.Generator
):
    arrays = model(rng)
    source = write_checkpoint(tmp_path / "source", arrays, 2)
    (tmp_path / "map.json").write_text(json.dumps(document))
    run("convert", "-i", source, "-o", tmp_path / "out", "--map", tmp_path / "map.json", *options)
    tree = jax.tree.map(np.ascontiguousarray, mapped(document, arrays))
    assert_tree(jax_pytree.load(tmp_path / "out", on_one_device()), tree)
    assert_tree(tensorport.load(tmp_path / "out"), tree)
    run("verify", "--model", tmp_path / "out", "--source", source)
    saved = save(tree, tmp_path / "saved")
    assert (tmp_path / "out" / "pytreedef.json").read_bytes() == (saved / "pytreedef.json").read_bytes()


# The command and the package on it


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_is_verified_loaded_and_inspected(output: str, make: Make, source: Path, arrays: dict[str, Array]):
    path, tree = make(*OUTPUTS[output]), tree_for(arrays, OUTPUTS[output])
    run("verify", "--model", path)
    run("verify", "--model", path, "--source", source)
    assert_tree(tensorport.load(path), tree)
    said = json.loads(run("inspect", path, "--json").stdout)
    assert said["format"] == "jax-pytree"
    assert len(tensorport.open(path)) == len(arrays)


def test_an_ordered_tree_is_loaded_as_one(tmp_path: Path, make: Make):
    path = tmp_path / "ordered"
    shutil.copytree(make("--zero-copy"), path)
    document = json.loads((path / "manifest.json").read_text())
    names = [row["path"][0] for row in document["arrays"]]
    np.random.default_rng(7).shuffle(names)
    for row in document["arrays"]:
        row["leaf"] = names.index(row["path"][0])
    (path / "manifest.json").write_text(json.dumps(document))
    found = tensorport.load(path)
    assert type(found) is OrderedDict
    assert list(found) == names
    document["arrays"][0]["leaf"] = document["arrays"][1]["leaf"]
    (path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(tensorport.FormatError, match="'leaf': 53 places that are not 0 to 52"):
        tensorport.open(path)


def test_lists_of_a_map_are_loaded_as_such(tmp_path: Path, make: Make, arrays: dict[str, Array]):
    path = tmp_path / "lists"
    shutil.copytree(make("--tree", "nested"), path)
    document = json.loads((path / "manifest.json").read_text())
    for row in document["arrays"]:
        if row["path"][0] == "layers":
            row["lists"] = [1]
    (path / "manifest.json").write_text(json.dumps(document))
    wanted = tree_of(arrays, "nested")
    wanted["layers"] = [wanted["layers"][str(layer)] for layer in range(12)]
    assert_tree(tensorport.load(path), wanted)
    document["arrays"][0]["lists"] = [7]
    (path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(tensorport.FormatError, match="'lists' says that key 7"):
        tensorport.open(path)


@pytest.mark.parametrize("output", ["data files", "zero-copy", "lists"])
def test_the_way_back_gives_the_source(output: str, make: Make, arrays: dict[str, Array], tmp_path: Path):
    floats4 = {name for name in arrays if name.endswith(".F4")}  # one code a byte, which safetensors cannot say
    run(
        *("convert", "-i", make(*OUTPUTS[output]), "-o", tmp_path / "back", "--format", "safetensors"),
        *("--exclude", "*.F4", "--precision", "keep"),
    )
    found = read_back(tmp_path / "back")
    assert found.keys() == arrays.keys() - floats4
    for name, array in found.items():
        assert array == arrays[name].tobytes(), name


def read_back(path: Path) -> dict[str, bytes]:
    """Tensors of a safetensors checkpoint as their bytes."""
    found: dict[str, bytes] = {}
    for file in sorted(path.glob("*.safetensors")):
        for name, row in safetensors.deserialize(file.read_bytes()):
            found[name] = bytes(row["data"])
    return found


def test_overwriting_and_the_same_bytes_again(source: Path, tmp_path: Path):
    run("convert", "-i", source, "-o", tmp_path / "out", *JAX, "--workers", "1")
    first = tree_bytes(tmp_path / "out")
    run("convert", "-i", source, "-o", tmp_path / "out", *JAX, "--workers", "3", "--overwrite")
    assert tree_bytes(tmp_path / "out") == first


def test_wide_numbers_and_young_dtypes_are_noted(source: Path, tmp_path: Path):
    said = run("convert", "-i", source, "-o", tmp_path / "out", *JAX).stdout
    said = re.sub(r"\s+", " ", said)
    assert "3 arrays have 64-bit numbers, which JAX cuts to 32 bits without a word unless jax_enable_x64 is set" in said
    assert "float8_e8m0fnu (of 1): without TensorStore 0.1.86 or later" in said


def test_compat_stores_what_older_readers_do_not_know_as_uint8(tmp_path: Path, rng: np.random.Generator):
    arrays = {name: random_array(rng, name, (4, 6)) for name in ("F8_E8M0", "BF16")}
    source = write_checkpoint(tmp_path / "source", arrays)
    run("convert", "-i", source, "-o", tmp_path / "out", *JAX, "--compat")
    found = jax_pytree.load(tmp_path / "out", on_one_device())
    assert_tree(found, arrays | {"F8_E8M0": arrays["F8_E8M0"].view(np.uint8)})
    assert_tree(tensorport.load(tmp_path / "out", views=True), arrays)


# What others have written


def expected_leaves(name: str) -> dict[str, dict[str, Any]]:
    """What a golden directory holds: dtype, shape and bytes, by keys joined by dots."""
    rows = json.loads((GOLDEN / f"{name}.expect.json").read_text())["leaves"]
    found = {}
    for row in rows:
        keys = re.findall(r"\['((?:[^'\\]|\\.)*)'\]|\[(\d+)\]|\.(\w+)", row["path"])
        parts = [
            text.encode("latin-1", "backslashreplace").decode("unicode_escape") if text else number or field
            for text, number, field in keys
        ]
        if not row.get("null"):
            found[".".join(parts)] = row
    return found


@pytest.mark.parametrize("name", ["own", "ref", "odict", "bare", "onlyempty", "saved_by_jax_0_10_2"])
def test_golden_directories_are_read(name: str, tmp_path: Path):
    run(
        *("convert", "-i", GOLDEN / name, "-o", tmp_path / "back", "--format", "safetensors"),
        *("--precision", "keep"),
    )
    expected = expected_leaves(name)
    found = read_back(tmp_path / "back")
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key].hex() == row["hex"], key
    listed = {
        row["name"]: row for row in json.loads(run("inspect", GOLDEN / name, "--all", "--json").stdout)["tensors"]
    }
    for key, row in expected.items():
        assert listed[key]["shape"] == row["shape"]


def test_named_tuples_have_names_and_other_types_numbers():
    said = json.loads(run("inspect", GOLDEN / "custom", "--all", "--json").stdout)
    assert sorted(row["name"] for row in said["tensors"]) == ["p", "q.0", "q.1"]


def test_a_tree_without_arrays_is_read():
    assert json.loads(run("inspect", GOLDEN / "noarray", "--json").stdout)["tensor_count"] == 0


def test_what_jax_saves_sharded_is_converted_back(source: Path, arrays: dict[str, Array], tmp_path: Path):
    """Eight shards of each array, chunks of zeros left out, values in compressed nodes."""
    tree = jax.tree.map(lambda leaf: jax.device_put(leaf, on_axis(0)(leaf)), arrays)
    jax_pytree.save(tree, tmp_path / "saved")
    assert "zeros" in arrays
    run("verify", "--model", tmp_path / "saved", "--source", source)
    run(
        *("convert", "-i", tmp_path / "saved", "-o", tmp_path / "back", "--format", "safetensors"),
        *("--exclude", "*.F4", "--precision", "keep"),
    )
    for name, array in read_back(tmp_path / "back").items():
        assert array == arrays[name].tobytes(), name


PROCESS = """
import sys
import jax
jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
import numpy as np
from jax.experimental.array_serialization import pytree_serialization
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()), ("x",))
assert len(mesh.devices) == 4
tree = {}
for name, shape in {"rows": (64, 1000), "few": (4,), "both": (8, 3)}.items():
    whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    spec = NamedSharding(mesh, P() if name == "both" else P("x"))
    tree[name] = jax.make_array_from_callback(shape, spec, lambda index, whole=whole: whole[index])
pytree_serialization.save(tree, sys.argv[3])
"""


def test_what_two_processes_have_saved_is_read(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", PROCESS]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    hosts = [
        subprocess.Popen(
            [*command, str(number), str(port), str(tmp_path / "saved")],
            env=env,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for number in range(2)
    ]
    for host in hosts:
        _, words = host.communicate(timeout=120)
        assert host.returncode == 0, words[-2000:]
    assert (tmp_path / "saved" / "array_store" / "process_1").is_dir()
    run("convert", "-i", tmp_path / "saved", "-o", tmp_path / "back", "--format", "safetensors", "--precision", "keep")
    found = read_back(tmp_path / "back")
    for name, count in {"rows": 64000, "few": 4, "both": 24}.items():
        assert found[name] == np.arange(count, dtype=np.float32).tobytes()


# What is damaged, or somebody else's


def damaged(tmp_path: Path, name: str = "own") -> Path:
    shutil.copytree(GOLDEN / name, tmp_path / "damaged")
    return tmp_path / "damaged"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree.update(__jax_pytreedef_repr="CAAAAAQABAAEAAA"), "is not base64"),
        (lambda tree: tree.update(__jax_pytreedef_repr="AAAA"), "nothing at byte 0"),
        (lambda tree: tree.update(__jax_pytreedef_repr=7), "expected a string for __jax_pytreedef_repr"),
        (lambda tree: tree.pop("__jax_pytreedef_repr"), "'__jax_pytreedef_repr' is missing"),
        (lambda tree: tree.pop("__jax_leaf_ids"), "'__jax_leaf_ids' is missing"),
        (lambda tree: tree["__jax_leaf_ids"].pop(), "the tree has more leaves than the 27"),
        (lambda tree: tree["__jax_leaf_ids"].append(None), "the tree has 28 leaves, '__jax_leaf_ids' 29"),
        (lambda tree: tree["__jax_leaf_ids"].__setitem__(2, "Array(int8[])"), "as leaf 2, but array_store has no such"),
        (lambda tree: tree["__jax_leaf_ids"].__setitem__(0, 3), "expected a text or null for a leaf"),
    ],
)
def test_a_tree_that_is_wrong_is_refused(change: Callable[[dict[str, Any]], object], words: str, tmp_path: Path):
    path = damaged(tmp_path)
    tree = json.loads((path / "pytreedef.json").read_text())
    change(tree)
    (path / "pytreedef.json").write_text(json.dumps(tree))
    assert words in re.sub(r"\s+", " ", run("inspect", path, code=3).stderr)


def test_a_leaf_that_is_said_to_be_another_is_noted(tmp_path: Path):
    path = damaged(tmp_path)
    tree = json.loads((path / "pytreedef.json").read_text())
    tree["__jax_leaf_ids"][0] = "Array(int32[4])"
    (path / "pytreedef.json").write_text(json.dumps(tree))
    said = re.sub(r"\s+", " ", run("inspect", path).stderr)
    assert "1 arrays have another dtype or shape in the store, which is read, than pytreedef.json says: list.0" in said


def test_a_store_that_is_missing_or_cut_is_refused(tmp_path: Path):
    path = damaged(tmp_path)
    with (path / "array_store" / "d" / "data.bin").open("r+b") as file:
        file.truncate(100)
    assert "of a file of 100" in re.sub(r"\s+", " ", run("inspect", path, code=3).stderr)
    shutil.rmtree(path / "array_store")
    assert "there is no folder array_store" in re.sub(r"\s+", " ", run("inspect", path, code=3).stderr)


def test_what_is_changed_is_found_by_verify(make: Make, tmp_path: Path):
    path = tmp_path / "changed"
    shutil.copytree(make(), path)
    data = path / "array_store" / "d" / "data-00001-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[:4096] + bytes([content[4096] ^ 1]) + content[4097:])
    assert "differ" in run("verify", "--model", path, code=1).stdout
    data.write_bytes(content)
    run("verify", "--model", path)
    tree = path / "pytreedef.json"
    tree.write_text(tree.read_text().replace("[1024, 1024]", "[1024, 1025]"))
    assert "pytreedef.json" in run("verify", "--model", path, code=1).stdout


def test_options_that_mean_nothing_to_jax_are_refused(source: Path, tmp_path: Path):
    for arguments in (["--step", "3"], ["--item", "x"], ["--zarr3"], ["--no-ocdbt"], ["--orbax-layout", "v1"]):
        said = run("convert", "-i", source, "-o", tmp_path / "out", *JAX, *arguments, code=2).stderr
        assert f"{arguments[0]} goes with --format orbax" in said
    said = run("convert", "-i", source, "-o", tmp_path / "out", *JAX, "--shard-size", "1GB", code=2).stderr
    assert "--shard-size does not go with --format jax" in said
    said = run(
        "convert", "-i", source, "-o", tmp_path / "out", *JAX, "--zero-copy", "--link", "in-place", code=2
    ).stderr
    assert "--link in-place is for --format orbax" in re.sub(r"\s+", " ", said)
    assert not (tmp_path / "out").exists()


def test_sharding_over_more_than_one_axis(make: Make, arrays: dict[str, Array]):
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
    whole, split = on_one_device(), NamedSharding(mesh, jax.sharding.PartitionSpec("x", "y"))
    shardings = {name: split if name == "big.kernel" else whole for name in arrays}
    found = jax_pytree.load(make("--zero-copy"), shardings)
    assert found["big.kernel"].sharding == split
    assert np.asarray(found["big.kernel"]).tobytes() == arrays["big.kernel"].tobytes()
    assert found["big.kernel"].dtype == ml_dtypes.bfloat16

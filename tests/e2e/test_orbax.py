# SPDX-License-Identifier: MIT
"""`convert --format orbax`: what Orbax itself restores of it, by every API in use, is the source bit for bit.

Outputs are made once and restored in many ways. The faults, names, folders and kills are in test_orbax_output.py.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import tensorstore
from orbax.checkpoint import v1
from orbax_readers import BARE, LIKE, assert_tree, on_axis, shapes_of, tree_of

import tensorport
from conftest import (
    DTYPES,
    REFUSED,
    ROOT,
    Raw,
    command_path,
    pack_float4,
    random_array,
    run,
    small_floats,
    write_checkpoint,
)

Array = np.ndarray[Any, Any]
Make = Callable[..., Path]

DATA: tuple[str, ...] = ("--format", "orbax")
ZERO = (*DATA, "--zero-copy")
OUTPUTS = {
    "data files": DATA,
    "data files, zarr3": (*DATA, "--zarr3"),
    "plain zarr": (*DATA, "--no-ocdbt"),
    "plain zarr3": (*DATA, "--no-ocdbt", "--zarr3"),
    "small chunks": (*DATA, "--chunk-bytes", "2KiB"),
    "zero-copy": ZERO,
    "zero-copy, zarr3": (*ZERO, "--zarr3"),
    "zero-copy, small chunks": (*ZERO, "--chunk-bytes", "2KiB", "--min-chunk", "0"),
}


@pytest.fixture(scope="module", autouse=True)
def _wide() -> Iterator[None]:
    """Orbax makes arrays in threads of its own, which a context manager would not reach."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    """Every dtype, ranks 0 to 8, empty ones, names of all kinds, and sizes that are cut into chunks."""
    rng = np.random.default_rng(20260711)
    found = {f"dtypes.{name}": random_array(rng, name, (16, 8)) for name in DTYPES if name not in REFUSED}
    found |= {f"ranks.{rank}": random_array(rng, "I16", rng.integers(1, 4, rank)) for rank in range(9)}
    found |= {"empty.0": random_array(rng, "BF16", (0,)), "empty.1": random_array(rng, "F32", (3, 0, 2))}
    found["layers.0.kernel"] = random_array(rng, "BF16", (1024, 1024))
    found["layers.1.kernel"] = random_array(rng, "F32", (8, 24, 4096))
    found["odd"] = random_array(rng, "BF16", (1031, 1033))
    found |= {
        name: random_array(rng, "U8", (3,)) for name in ("with space/slash", "é模型", "quo'te\"s\\", "line\n\x7f")
    }
    return found


@pytest.fixture(scope="module")
def source(arrays: dict[str, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files, their data at odd offsets."""
    return write_checkpoint(tmp_path_factory.mktemp("source"), arrays, 3, pad=5)


@pytest.fixture(scope="module")
def folder_names(arrays: dict[str, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the names that can be no folder."""
    fit = {name: array for name, array in arrays.items() if "/" not in name and "\\" not in name}
    return write_checkpoint(tmp_path_factory.mktemp("folders"), fit, 3, pad=5)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Converts a source with the arguments given; the same again is not converted again."""
    made: dict[tuple[str, ...], Path] = {}

    def call(source: Path, *arguments: object) -> Path:
        key = tuple(map(str, (source, *arguments)))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("out") / "model"
            run("convert", "-i", source, "-o", made[key], *arguments)
        return made[key]

    return call


def every_output(name: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array]) -> tuple[Path, Any]:
    """One of OUTPUTS, and its tree."""
    plain = "--no-ocdbt" in OUTPUTS[name]
    held = {key: array for key, array in arrays.items() if not (plain and ("/" in key or "\\" in key))}
    return make(folder_names if plain else source, *OUTPUTS[name]), tree_of(held)


# What Orbax restores


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("reader", BARE)
def test_orbax_restores_every_output(
    reader: str, output: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array]
):
    path, tree = every_output(output, make, source, folder_names, arrays)
    assert_tree(BARE[reader](path), tree)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_orbax_shards_every_output_over_eight_devices(
    axis: int, output: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array]
):
    path, tree = every_output(output, make, source, folder_names, arrays)
    like = shapes_of(tree, on_axis(axis))
    found = LIKE["standard"](path, like)
    assert_tree(found, tree)
    for leaf, shape in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert leaf.sharding == shape.sharding


@pytest.mark.parametrize("output", ["data files", "zero-copy"])
@pytest.mark.parametrize("reader", LIKE)
def test_orbax_restores_into_an_abstract_tree(
    reader: str, output: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array]
):
    path, tree = every_output(output, make, source, folder_names, arrays)
    assert_tree(LIKE[reader](path, shapes_of(tree, on_axis(0))), tree)
    if reader == "standard":
        assert_tree(LIKE[reader](path, shapes_of(tree)), tree)


def test_orbax_casts_while_it_restores(make: Make, source: Path, arrays: dict[str, Array]):
    wanted = {"layers.0.kernel": arrays["layers.0.kernel"].astype(np.float32)}
    out = make(source, *ZERO, "--include", "layers.0.kernel")
    found = LIKE["standard"](out, shapes_of(wanted, on_axis(1)))
    np.testing.assert_array_equal(np.asarray(found["layers.0.kernel"]), wanted["layers.0.kernel"])


def test_a_part_can_be_restored(make: Make, source: Path, arrays: dict[str, Array]):
    like = shapes_of({"odd": arrays["odd"]}, on_axis(0))
    arguments = ocp.args.PyTreeRestore(like, ocp.checkpoint_utils.construct_restore_args(like), partial_restore=True)
    found = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(make(source, *DATA), args=arguments)
    assert_tree(found, {"odd": arrays["odd"]})


def test_a_single_array_is_read_by_tensorstore_alone(make: Make, source: Path, arrays: dict[str, Array]):
    for options, driver in ((DATA, "zarr"), (ZERO, "zarr"), (OUTPUTS["data files, zarr3"], "zarr3")):
        base = {"driver": "ocdbt", "base": f"file://{make(source, *options)}/", "path": "layers.0.kernel/"}
        store = tensorstore.open({"driver": driver, "kvstore": base}).result()
        assert store[1000:1010, 7].read().result().tobytes() == arrays["layers.0.kernel"][1000:1010, 7].tobytes()


# Managers


MODES = {"data": DATA, "zero-copy": ZERO}


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_manager_finds_a_step(mode: str, make: Make, source: Path, arrays: dict[str, Array]):
    root, tree = make(source, *MODES[mode], "--step", 3), tree_of(arrays)
    like = shapes_of(tree, on_axis(0))
    with ocp.CheckpointManager(root) as manager:
        assert (manager.all_steps(), manager.latest_step()) == ([3], 3)
        assert_tree(manager.restore(3), tree)
        assert_tree(manager.restore(3, args=ocp.args.StandardRestore()), tree)
        assert_tree(manager.restore(3, args=ocp.args.StandardRestore(like)), tree)
        shape = manager.item_metadata(3)["odd"]
        assert (shape.shape, shape.dtype) == ((1031, 1033), ml_dtypes.bfloat16)
    assert_tree(BARE["standard"](root / "3" / "default"), tree)
    assert_tree(BARE["v1"](root / "3"), tree)


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_manager_finds_an_item(mode: str, make: Make, source: Path, arrays: dict[str, Array]):
    options = ("--step", 0, "--item", "items", "--wrap", "params/params", "--zarr3")
    root, tree = make(source, *MODES[mode], *options), tree_of(arrays, wrap="params/params")
    with ocp.CheckpointManager(root, item_names=("items",)) as manager:
        assert manager.latest_step() == 0
        wanted = ocp.args.Composite(items=ocp.args.PyTreeRestore(tree))
        assert_tree(manager.restore(0, args=wanted)["items"], tree)
    with ocp.CheckpointManager(root) as manager:
        assert_tree(manager.restore(0)["items"], tree)
    assert_tree(BARE["pytree"](root / "0" / "items"), tree)


def test_a_manager_saves_its_next_step_beside_ours(tmp_path: Path, arrays: dict[str, Array], source: Path):
    root, part = tmp_path / "run", {"layers.0.kernel": arrays["layers.0.kernel"]}
    run("convert", "-i", source, "-o", root, *ZERO, "--step", 3, "--include", "layers.0.kernel")
    with ocp.CheckpointManager(root) as manager:
        manager.save(4, args=ocp.args.StandardSave(part))
        manager.wait_until_finished()
        assert manager.all_steps() == [3, 4]
        for step in (3, 4):
            assert_tree(manager.restore(step, args=ocp.args.StandardRestore(shapes_of(part, on_axis(0)))), part)
    run("convert", "-i", source, "-o", root, *ZERO, "--step", 5, "--include", "layers.0.kernel")
    with ocp.CheckpointManager(root) as manager:
        assert manager.all_steps() == [3, 4, 5]


@pytest.mark.parametrize("mode", MODES)
def test_the_layout_of_v1_is_restored_by_v1(mode: str, make: Make, source: Path, arrays: dict[str, Array]):
    out, tree = make(source, *MODES[mode], "--orbax-layout", "v1"), tree_of(arrays)
    like = shapes_of(tree, on_axis(0))
    assert_tree(v1.load(out), tree)
    assert_tree(v1.load(out, like), tree)
    root = make(source, *MODES[mode], "--orbax-layout", "v1", "--step", 7)
    with v1.training.Checkpointer(root) as checkpointer:
        assert checkpointer.latest.step == 7
        assert_tree(checkpointer.load(7), tree)
        assert_tree(checkpointer.load(7, like), tree)


# Trees


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tree", ["flat", "nested", "lists"])
@pytest.mark.parametrize("wrap", [None, "params/params"])
def test_trees_come_back(tmp_path: Path, rng: np.random.Generator, mode: str, tree: str, wrap: str | None):
    names = ["embed.w", *[f"layers.{n}.w" for n in range(12)], "odd.0", "odd.2", "zero.00", "a.b.0.0.c"]
    arrays = {name: random_array(rng, "F32", (3, 2)) for name in names}
    options = (*MODES[mode], "--tree", tree, *(("--wrap", wrap) if wrap else ()))
    run("convert", "-i", write_checkpoint(tmp_path / "source", arrays), "-o", tmp_path / "out", *options)
    wanted = tree_of(arrays, tree, wrap)
    assert_tree(BARE["standard"](tmp_path / "out"), wanted)
    assert_tree(tensorport.load(tmp_path / "out"), wanted)
    assert_tree(LIKE["standard"](tmp_path / "out", shapes_of(wanted, on_axis(0))), wanted)
    run("verify", "--model", tmp_path / "out", "--source", tmp_path / "source")


@pytest.mark.parametrize("mode", MODES)
def test_a_list_may_be_the_root(tmp_path: Path, mode: str):
    arrays = {str(number): np.float32([number]) for number in range(11)}
    source = write_checkpoint(tmp_path / "source", arrays)
    run("convert", "-i", source, "-o", tmp_path / "out", *MODES[mode], "--tree", "lists")
    assert_tree(BARE["standard"](tmp_path / "out"), tree_of(arrays, "lists"))
    assert_tree(tensorport.load(tmp_path / "out"), tree_of(arrays, "lists"))


def test_a_checkpoint_without_tensors_is_refused_as_orbax_would(tmp_path: Path):
    source = write_checkpoint(tmp_path / "source", {})
    for mode in MODES.values():
        assert "no tensors" in run("convert", "-i", source, "-o", tmp_path / "out", *mode, code=3).stderr
    empty = {"empty": np.zeros((0, 2), np.float32)}
    source = write_checkpoint(tmp_path / "nothing", empty)
    run("convert", "-i", source, "-o", tmp_path / "out", *DATA)
    assert_tree(BARE["standard"](tmp_path / "out"), empty)
    assert_tree(tensorport.load(tmp_path / "out"), empty)
    run("verify", "--model", tmp_path / "out", "--source", source)


# Our own loader, verify, inspect, and the way back


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_loader_reads_every_output(
    output: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array]
):
    path, tree = every_output(output, make, source, folder_names, arrays)
    assert_tree(tensorport.load(path), tree)
    assert_tree(tensorport.load(path, sharding=on_axis(0)(arrays["layers.0.kernel"]), names="layers*"), {
        name: array for name, array in tree.items() if name.startswith("layers")
    })  # fmt: skip
    with tensorport.open(path, mmap=True) as checkpoint:
        assert_tree({name: tensor.numpy() for name, tensor in checkpoint.items()}, tree)
        odd = checkpoint["odd"][500:503, ::7]
    assert odd.tobytes() == arrays["odd"][500:503, ::7].tobytes()


@pytest.mark.parametrize("output", OUTPUTS)
def test_verify_and_inspect_know_every_output(
    output: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array]
):
    path, tree = every_output(output, make, source, folder_names, arrays)
    origin = folder_names if "plain" in output else source
    run("verify", "--model", path)
    assert "every byte re-derived" in run("verify", "--model", path, "--source", origin).stdout
    said = json.loads(run("inspect", path, "--json").stdout)
    assert said["format"] == "orbax"
    assert said["tensor_count"] == len(tree)


def test_steps_and_items_are_verified_too(make: Make, source: Path):
    for mode in MODES.values():
        for options in (("--step", 3), ("--step", 0, "--item", "items"), ("--orbax-layout", "v1")):
            extra = ("--wrap", "params/params", "--zarr3") if "items" in options else ()
            root = make(source, *mode, *options, *extra)
            unit = root / str(options[1]) if "--step" in options else root
            run("verify", "--model", unit)
            run("verify", "--model", unit, "--source", source)
            assert json.loads(run("inspect", unit, "--json").stdout)["format"] == "orbax"


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("back", ["msgpack", "safetensors"])
def test_the_way_back(
    back: str, output: str, make: Make, source: Path, folder_names: Path, arrays: dict[str, Array], tmp_path: Path
):
    path, tree = every_output(output, make, source, folder_names, arrays)
    if back == "safetensors":  # float4 holds one code a byte here, which safetensors cannot say
        path, tree = path, {name: array for name, array in tree.items() if name != "dtypes.F4"}
    exclude = ("--exclude", "dtypes.F4") if back == "safetensors" else ()
    run("convert", "-i", path, "-o", tmp_path / "back", "--format", back, "--precision", "keep", *exclude)
    assert_tree(tensorport.load(tmp_path / "back"), tree)


@pytest.mark.parametrize("back", ["msgpack", "safetensors"])
@pytest.mark.parametrize("kind", ["standard", "manager", "v1", "zarr"])
def test_weights_of_orbaxs_own_checkpoints_get_out(kind: str, back: str, tmp_path: Path, rng: np.random.Generator):
    tree = {
        "layers": [{"w": random_array(rng, "BF16", (64, 32))}, {"w": random_array(rng, "BF16", (64, 32))}],
        "step": np.asarray(np.int32(7)),
    }
    saved, wanted = tmp_path / "saved", {"layers.0.w": tree["layers"][0]["w"], "layers.1.w": tree["layers"][1]["w"]}
    sharded = jax.tree.map(lambda array: jax.device_put(array, on_axis(0)(array)), tree)
    if kind == "standard":
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(saved, sharded)
    elif kind == "manager":
        with ocp.CheckpointManager(saved) as manager:
            manager.save(11, args=ocp.args.StandardSave(sharded))
    elif kind == "v1":
        v1.save(saved, sharded)
    else:
        ocp.PyTreeCheckpointer(use_ocdbt=False).save(saved, sharded)
    run("convert", "-i", saved, "-o", tmp_path / "back", "--format", back, "--precision", "keep")
    assert_tree(tensorport.load(tmp_path / "back"), wanted | {"step": tree["step"]})
    run("convert", "-i", saved, "-o", tmp_path / "again", "--format", "orbax", "--tree", "lists")
    assert_tree(BARE["standard"](tmp_path / "again"), tree)
    run("verify", "--model", tmp_path / "again", "--source", saved)


# What is not copied, and what is


def files_of(path: Path) -> dict[str, Any]:
    """Of each array the files that it lies in."""
    document = json.loads((path / "manifest.json").read_text())
    return {
        "/".join(row["path"]): {document["files"][extent["file"]]["name"] for extent in row["extents"]}
        for row in document["arrays"]
    }


def test_only_what_needs_arithmetic_is_copied(tmp_path: Path, rng: np.random.Generator):
    arrays = {
        "embed": small_floats(rng, "F32", (512, 256)),
        "kernel": small_floats(rng, "BF16", (512, 512)),
        "norm": small_floats(rng, "F32", (7,)),
        "ids": random_array(rng, "I64", (5,)),
        "scale": random_array(rng, "F8_E4M3", (128, 8)),
    }
    source = write_checkpoint(tmp_path / "source", arrays)
    options = (*ZERO, "--precision", "bfloat16", "--keep-dtype", "norm")
    run("convert", "-i", source, "-o", tmp_path / "out", *options)
    wanted = arrays | {"embed": arrays["embed"].astype(ml_dtypes.bfloat16)}
    where = files_of(tmp_path / "out")
    assert {name for name, files in where.items() if files == {"model.safetensors"}} == set(arrays) - {"embed"}
    assert where["embed"] == {"d/data-00001-of-00001"}
    assert_tree(BARE["standard"](tmp_path / "out"), wanted)
    assert_tree(tensorport.load(tmp_path / "out", names=lambda name: name != "ids"), {
        name: array for name, array in wanted.items() if name != "ids"
    })  # fmt: skip
    run("verify", "--model", tmp_path / "out", "--source", source)


@pytest.mark.parametrize("mode", MODES)
def test_tied_tensors_stay_tied_in_the_source_only(tmp_path: Path, rng: np.random.Generator, mode: str):
    array = random_array(rng, "BF16", (64, 32))
    source = tmp_path / "source"
    source.mkdir()
    header = {name: {"dtype": "BF16", "shape": [64, 32], "data_offsets": [0, 4096]} for name in ("embed", "head")}
    text = json.dumps(header).encode()
    (source / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + array.tobytes())
    done = run("convert", "-i", source, "-o", tmp_path / "out", *MODES[mode], code=None)
    if done.returncode:  # safetensors itself refuses tensors that overlap: so may we, with words
        assert "overlap" in done.stderr
        return
    assert_tree(BARE["standard"](tmp_path / "out"), {"embed": array, "head": array})


QUANTISED = ["mxfp4-gptoss", "ct-nvfp4-bf16", "gptq-4bit-g32-sym-v2"]


@pytest.mark.parametrize("name", QUANTISED)
def test_decoded_weights_lie_beside_references(tmp_path: Path, rng: np.random.Generator, name: str):
    origin, source = ROOT / "tests" / "data" / "quantised" / name, tmp_path / "source"
    tensors = {
        name: Raw(view["dtype"], tuple(view["shape"]), bytes(view["data"]))
        for name, view in safetensors.deserialize((origin / "model.safetensors").read_bytes())
    }
    norm = small_floats(rng, "BF16", (64, 32))
    write_checkpoint(source, tensors | {"model.norm.weight": norm})
    (source / "config.json").write_bytes((origin / "config.json").read_bytes())
    options = ("--dequantize", "--precision", "bfloat16")
    run("convert", "-i", source, "-o", tmp_path / "plain", "--format", "safetensors", *options)
    run("convert", "-i", source, "-o", tmp_path / "zero", *ZERO, *options)
    run("convert", "-i", source, "-o", tmp_path / "data", *DATA, *options)
    wanted = {name: np.asarray(array) for name, array in tensorport.load(tmp_path / "plain").items()}
    assert_tree(wanted["model.norm.weight"], norm)
    for out in ("zero", "data"):
        assert_tree(BARE["standard"](tmp_path / out), wanted)
        assert_tree(tensorport.load(tmp_path / out), wanted)
        run("verify", "--model", tmp_path / out, "--source", source)
    where = files_of(tmp_path / "zero")
    assert where["model.norm.weight"] == {"model.safetensors"}
    assert {"d/data-00001-of-00001"} in where.values()


def test_quantised_weights_pass_through(tmp_path: Path):
    source = ROOT / "tests" / "data" / "quantised" / "mxfp4-gptoss"
    run("convert", "-i", source, "-o", tmp_path / "zero", *ZERO)
    run("convert", "-i", source, "-o", tmp_path / "copy", "--format", "safetensors")
    wanted = {name: np.asarray(array) for name, array in tensorport.load(tmp_path / "copy").items()}
    assert_tree(BARE["standard"](tmp_path / "zero"), wanted)


@pytest.mark.parametrize("mode", MODES)
def test_compat_stores_what_older_readers_do_not_know_as_uint8(tmp_path: Path, rng: np.random.Generator, mode: str):
    arrays = {name: random_array(rng, name, (4, 6)) for name in ("F4", "F8_E8M0", "BF16", "F8_E4M3")}
    source = write_checkpoint(tmp_path / "source", arrays)
    run("convert", "-i", source, "-o", tmp_path / "out", *MODES[mode], "--compat")
    packed = np.frombuffer(pack_float4(arrays["F4"]), np.uint8).reshape(4, 3)
    found = BARE["standard"](tmp_path / "out")
    assert_tree(found, arrays | {"F4": packed, "F8_E8M0": arrays["F8_E8M0"].view(np.uint8)})
    assert_tree(tensorport.load(tmp_path / "out", views=True), arrays)
    if mode == "zero-copy":
        assert all(files == {"model.safetensors"} for files in files_of(tmp_path / "out").values())
    run("verify", "--model", tmp_path / "out", "--source", source)


@pytest.mark.parametrize("chunk_bytes", [1 << 10, 1 << 16])
@pytest.mark.parametrize("shape", [(700, 1001), (2, 350, 1001), (2, 40001), (90002,), (30000, 3)])
def test_packed_codes_are_cut_into_chunks_at_either_of_a_byte(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...], chunk_bytes: int
):
    arrays = {"codes": random_array(rng, "F4", shape)}
    folder = write_checkpoint(tmp_path / "source", arrays)
    words = ("--format", "orbax", "--no-ocdbt", "--workers", 2, "--chunk-bytes", chunk_bytes)
    run("convert", "-i", folder, "-o", tmp_path / "out", *words)
    assert_tree(BARE["standard"](tmp_path / "out"), arrays)
    run("verify", "--model", tmp_path / "out", "--source", folder)


def test_the_example_restores_a_model(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setenv("TENSORPORT_BIN", str(command_path()))
    example = importlib.import_module("orbax_restore")
    example.main(str(source), str(tmp_path / "out"))
    said = capsys.readouterr().out
    assert "arrays on 8 devices" in said


# Two hosts

HOST = """
import json, os, sys
import jax
jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

def read_bytes():
    return int(open("/proc/self/io").read().split()[1])

mesh = Mesh(np.array(jax.devices()), ("x",))
answer = []
for path in sys.argv[3:]:
    shapes = json.load(open(os.path.join(path, "manifest.json")))["arrays"]
    like = {row["path"][0]: jax.ShapeDtypeStruct(row["shape"], row["dtype"], sharding=NamedSharding(mesh, P("x")))
            for row in shapes}
    ocp.StandardCheckpointer().restore(path, like)  # imports and the like are not to be counted
    before = read_bytes()
    found = ocp.StandardCheckpointer().restore(path, like)
    read = read_bytes() - before
    sums = {name: [[int(s.index[0].start or 0), int(np.asarray(s.data).view(np.uint8).astype(np.uint64).sum())]
                   for s in array.addressable_shards] for name, array in found.items()}
    answer.append([read, sums])
print("ANSWER" + json.dumps(answer), flush=True)
"""


def test_two_hosts_read_half_each(tmp_path: Path, rng: np.random.Generator):
    arrays = {
        "embed": random_array(rng, "BF16", (4096, 2048)),
        "kernel": random_array(rng, "F32", (1024, 1024)),
        "two": random_array(rng, "BF16", (1024, 1024)),
    }
    source = write_checkpoint(tmp_path / "source", arrays, 2)
    folders = [tmp_path / "data", tmp_path / "zero"]
    for folder, options in zip(folders, MODES.values(), strict=True):
        run("convert", "-i", source, "-o", folder, *options)
    answers = two_processes(HOST, *folders)
    total = sum(array.nbytes for array in arrays.values())
    for number, _ in enumerate(folders):
        starts: dict[str, set[int]] = {}
        for read, sums in (answer[number] for answer in answers):
            # A chunk that two devices of a process want at once is sometimes read twice.
            assert total / 2 <= read <= total * 0.7
            for name, shards in sums.items():
                for start, value in shards:
                    rows = arrays[name][start : start + len(arrays[name]) // 4]
                    assert value == int(rows.view(np.uint8).astype(np.uint64).sum()), name
                    starts.setdefault(name, set()).add(start)
        assert all(len(found) == 4 for found in starts.values())


def two_processes(program: str, *arguments: object) -> list[Any]:
    """What each of two hosts of two devices answers."""
    import os
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(number), str(port), *map(str, arguments)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    answers = []
    for host in hosts:
        out, err = host.communicate(timeout=300)
        assert host.returncode == 0, err[-4000:]
        answers.append(json.loads(out[out.index("ANSWER") + 6 :]))
    return answers

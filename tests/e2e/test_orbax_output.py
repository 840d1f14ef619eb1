# SPDX-License-Identifier: MIT
"""`convert --format orbax`: the folder. Links, chunks, determinism, what verify finds, what is refused, and kills.

What Orbax restores of it is in test_orbax.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orbax_readers import BARE, assert_tree, tree_of

import tensorport
from conftest import Raw, command_path, random_array, run, small_floats, tree_bytes, write_checkpoint, write_safetensors

Array = np.ndarray[Any, Any]
Convert = Callable[..., Path]

DATA: tuple[str, ...] = ("--format", "orbax")
ZERO = (*DATA, "--zero-copy")
MODES = {"data": DATA, "zero-copy": ZERO, "plain": (*DATA, "--no-ocdbt")}
SMALL = {"commit_success.txt", "manifest.json", "manifest.ocdbt", "_METADATA", "_CHECKPOINT_METADATA", ".gitattributes"}


def small_model(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "embed.weight": small_floats(rng, "BF16", (40, 16)),
        "layers.0.weight": small_floats(rng, "F32", (16, 16)),
        "layers.1.weight": small_floats(rng, "F32", (16, 16)),
        "step": np.asarray(np.int32(7)),
        "empty": np.zeros((0, 3), np.float32),
    }


@pytest.fixture
def model(rng: np.random.Generator) -> dict[str, Array]:
    return small_model(rng)


@pytest.fixture
def source(tmp_path: Path, model: dict[str, Array]) -> Path:
    """`model` in two files."""
    return write_checkpoint(tmp_path / "source", model, 2)


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# Files


def test_the_files_of_data_file_mode(source: Path, convert: Convert):
    out = convert(source, *DATA)
    nodes = {name for name in names_in(out) if name.startswith("d/") and "data" not in name}
    assert names_in(out) == SMALL | {"d/data-00001-of-00001"} | nodes
    assert len(nodes) == 1
    document = json.loads((out / "manifest.json").read_text())
    assert document["layout"] == "orbax"
    assert all(extent["offset"] % 64 == 0 for row in document["arrays"] for extent in row["extents"])


def test_side_files_lie_at_the_root_of_a_step(source: Path, convert: Convert):
    (source / "config.json").write_text("{}")
    (source / "tokenizer.json").write_text("{}")
    out = convert(source, *ZERO, "--step", 5)
    assert os.listdir(out) == ["5"]
    assert {"config.json", "tokenizer.json", "manifest.json", "commit_success.txt"} <= set(os.listdir(out / "5"))
    assert "default/_METADATA" in names_in(out / "5")
    run("verify", "--model", out / "5", "--source", source)


def test_data_files_hold_at_most_512_mib(tmp_path: Path):
    source = write_checkpoint(tmp_path / "source", {f"t{n}": Raw("BF16", (100 << 20,)) for n in range(6)})
    run("convert", "-i", source, "-o", tmp_path / "out", *DATA, "--dry-run")
    done = json.loads(run("convert", "-i", source, "-o", tmp_path / "out", *DATA, "--dry-run", "--json").stdout)
    sizes = [file["bytes"] for file in done["files"]]
    assert len(sizes) == 3
    assert max(sizes) <= 512 << 20


def chunks_of(out: Path, name: str) -> list[int] | None:
    """The shape of a chunk; None if the array is one."""
    rows = json.loads((out / "manifest.json").read_text())["arrays"]
    return next(row.get("chunk") for row in rows if row["path"] == [name])


def test_chunks_are_those_of_the_rule(tmp_path: Path, convert: Convert):
    shapes = {
        "below": ((1023, 1024), None),
        "two": ((1024, 1024), [512, 1024]),
        "eight": ((4096, 1024), [512, 1024]),
        "many": ((8192, 4096), [512, 4096]),
        "vocabulary": ((50257, 64), [50257, 16]),
        "odd": ((1031, 1033), None),
        "layers": ((24, 512, 512), [3, 512, 512]),
    }
    source = write_checkpoint(tmp_path / "source", {name: Raw("BF16", shape) for name, (shape, _) in shapes.items()})
    out = convert(source, *DATA)
    found = {name: chunks_of(out, name) for name in shapes}
    for name, (shape, wanted) in shapes.items():
        if wanted:
            assert found[name] == wanted, name
        else:
            assert found[name] in (None, list(shape)), name
    out = convert(source, *DATA, "--chunk-bytes", "64KiB", "--include", "two")
    assert chunks_of(out, "two") == [32, 1024]
    run("verify", "--model", out, "--source", source)


def test_min_chunk_decides_what_is_copied_for_being_small(tmp_path: Path, rng: np.random.Generator, convert: Convert):
    """An array whose chunks must be small and are less than their tensor is copied, and said to be."""
    arrays = {"wide": random_array(rng, "BF16", (1024, 1024)), "norm": random_array(rng, "F32", (5,))}
    source = write_checkpoint(tmp_path / "source", arrays)
    for options in ((), ("--chunk-bytes", "64KiB", "--min-chunk", "0"), ("--min-chunk", "16MiB")):
        out = convert(source, *ZERO, *options)
        assert_tree(BARE["standard"](out), arrays)
        run("verify", "--model", out, "--source", source)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [(), ("--zarr3",), ("--step", 9), ("--precision", "bfloat16"), ("--sha256",)])
def test_the_same_bytes_for_any_workers_and_whenever(
    source: Path, convert: Convert, mode: str, options: tuple[object, ...]
):
    outs = [convert(source, *MODES[mode], *options, "--workers", workers) for workers in (1, 2, 3)]
    outs.append(convert(source, *MODES[mode], *options, "--max-memory", "16MB"))
    assert all(tree_bytes(out) == tree_bytes(outs[0]) for out in outs[1:])


def test_a_timestamp_is_written_on_request(source: Path, convert: Convert):
    before = time.time_ns()
    out = convert(source, *DATA, "--timestamp")
    said = json.loads((out / "_CHECKPOINT_METADATA").read_text())["commit_timestamp_nsecs"]
    assert before - 10**9 <= said <= time.time_ns() + 10**9
    fixed = json.loads((convert(source, *DATA) / "_CHECKPOINT_METADATA").read_text())
    assert fixed["commit_timestamp_nsecs"] == 1700000000000000000
    run("verify", "--model", out, "--source", source)


def test_metadata_says_what_it_was_made_of(source: Path, convert: Convert):
    out = convert(source, *ZERO, "--sha256")
    files = json.loads((out / "_METADATA").read_text())["custom_metadata"]["tensorport"]["source"]
    assert [file["name"] for file in files] == sorted(path.name for path in source.glob("*.safetensors"))
    for file in files:
        data = (source / file["name"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        assert digest == hashlib.sha256((out / name.lstrip("*")).read_bytes()).hexdigest()


# Links

LINKS = ["auto", "hardlink", "symlink", "copy"]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("where", [(), ("--step", 2)])
def test_links(
    source: Path, tmp_path: Path, convert: Convert, model: dict[str, Array], link: str, where: tuple[object, ...]
):
    out = convert(source, *ZERO, "--link", link, *where)
    unit, folder = (out / "2", out / "2" / "default") if where else (out, out)
    for file in source.glob("*.safetensors"):
        linked = folder / file.name
        assert linked.is_symlink() == (link == "symlink")
        assert os.path.samefile(linked, file) == (link != "copy")
        assert linked.read_bytes() == file.read_bytes()
        if link == "symlink":
            assert os.readlink(linked) == str(file)
    assert_tree(BARE["standard"](folder), tree_of(model))
    assert_tree(tensorport.load(unit), tree_of(model))
    run("verify", "--model", unit, "--source", source)
    moved = out.rename(tmp_path / "moved")
    assert_tree(BARE["standard"](moved / folder.relative_to(out)), tree_of(model))
    run("verify", "--model", moved / unit.relative_to(out))


def test_a_symlink_is_warned_of_and_a_hard_link_is_not(source: Path, tmp_path: Path):
    said = {}
    for link in LINKS:
        done = run("convert", "-i", source, "-o", tmp_path / link, *ZERO, "--link", link)
        said[link] = done.stdout + done.stderr
    assert "must stay where it is" in said["symlink"]
    assert all("must stay" not in said[link] for link in LINKS if link != "symlink")


def test_the_source_may_consist_of_links(tmp_path: Path, convert: Convert, model: dict[str, Array]):
    """As the cache of Hugging Face does: what is linked is the file itself."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    write_checkpoint(blobs, model)
    snapshot.mkdir()
    (blobs / "model.safetensors").rename(blobs / "0123abcd")
    (snapshot / "model.safetensors").symlink_to("../blobs/0123abcd")
    for link in LINKS:
        out = convert(snapshot, *ZERO, "--link", link)
        assert_tree(BARE["standard"](out), tree_of(model))
        if link in ("auto", "hardlink"):
            assert os.path.samefile(out / "model.safetensors", blobs / "0123abcd")
            assert not (out / "model.safetensors").is_symlink()
        if link == "symlink":
            assert os.readlink(out / "model.safetensors") == str(blobs / "0123abcd")


def test_in_place_the_originals_become_a_checkpoint(source: Path, model: dict[str, Array]):
    before = tree_bytes(source)
    done = run("convert", "-i", source, "-o", source, *ZERO, "--link", "in-place")
    assert "deletes them" in done.stdout + done.stderr
    after = tree_bytes(source)
    assert all(after[name] == data for name, data in before.items())
    assert {name for name in after if "." in name} - set(before) >= {"manifest.ocdbt", "manifest.json"}
    assert_tree(BARE["standard"](source), tree_of(model))
    assert_tree(tensorport.load(source), tree_of(model))
    run("verify", "--model", source)
    again = run("convert", "-i", source, "-o", source, *ZERO, "--link", "in-place", code=2)
    assert "already holds" in again.stderr
    assert tree_bytes(source) == after


def test_in_place_nothing_of_ours_may_be_there_before(source: Path):
    (source / "d").write_text("mine")
    before = tree_bytes(source)
    run("convert", "-i", source, "-o", source, *ZERO, "--link", "in-place", code=2)
    assert tree_bytes(source) == before


def test_in_place_casts_go_beside_the_originals(source: Path, model: dict[str, Array]):
    run("convert", "-i", source, "-o", source, *ZERO, "--link", "in-place", "--precision", "float32")
    wanted = model | {"embed.weight": model["embed.weight"].astype(np.float32)}
    assert_tree(BARE["standard"](source), tree_of(wanted))
    assert (source / "d" / "data-00001-of-00001").stat().st_size == 40 * 16 * 4


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system to write to")
def test_another_file_system_gets_symbolic_links(source: Path, model: dict[str, Array]):
    out = Path(f"/dev/shm/tensorport-test-{os.getpid()}")
    if os.stat("/dev/shm").st_dev == source.stat().st_dev:
        pytest.skip("/dev/shm is no file system of its own")
    try:
        run("convert", "-i", source, "-o", out, *ZERO, "--link", "hardlink", code=None)
        assert not out.exists()
        done = run("convert", "-i", source, "-o", out, *ZERO)
        assert "must stay where it is" in done.stdout + done.stderr
        assert all(path.is_symlink() for path in out.glob("*.safetensors"))
        assert_tree(BARE["standard"](out), tree_of(model))
    finally:
        shutil.rmtree(out, ignore_errors=True)


# What verify finds


def flip(file: Path, at: int, mask: int = 1) -> None:
    """In place: a file with several names changes under all of them."""
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ mask]))


def differences(folder: Path, *options: object) -> str:
    """What verify says of a folder that must differ."""
    return run("verify", "--model", folder, *options, code=1).stdout


FLIPS = {
    "data": DATA,
    "zarr3": (*DATA, "--zarr3"),
    "plain": (*DATA, "--no-ocdbt"),
    "zero-copy": (*ZERO, "--link", "copy"),
    "mixed": (*ZERO, "--link", "copy", "--precision", "bfloat16", "--sha256"),
    "step": (*ZERO, "--link", "copy", "--step", 1),
}


def flip_every(tmp_path: Path, rng: np.random.Generator, mode: str, step: int) -> None:
    arrays = {"a.b": small_floats(rng, "F32", (3, 4)), "mask": np.bool_([1, 0]), "n": np.asarray(np.int64(5))}
    folder = write_checkpoint(tmp_path / "source", arrays)
    run("convert", "-i", folder, "-o", tmp_path / "out", *FLIPS[mode])
    out = tmp_path / "out" / ("1" if mode == "step" else "")
    for name in sorted(names_in(out)):
        size = (out / name).stat().st_size
        for at in range(len(name) % step, size, step):
            flip(out / name, at, 1 << at % 8)
            done = run("verify", "--model", out, code=None)
            if name != "manifest.json":  # whose own text is not its proof: a name of the tool may change
                assert done.returncode == 1, f"{name}: byte {at} of {size}: {done.stdout}{done.stderr}"
                assert name in done.stdout, f"{name}: byte {at} of {size}: {done.stdout}"
            flip(out / name, at, 1 << at % 8)
    run("verify", "--model", out)


@pytest.mark.parametrize("mode", FLIPS)
def test_flipped_bits_are_found(tmp_path: Path, rng: np.random.Generator, mode: str):
    flip_every(tmp_path, rng, mode, 13)


@pytest.mark.long
@pytest.mark.parametrize("mode", FLIPS)
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, rng: np.random.Generator, mode: str):
    flip_every(tmp_path, rng, mode, 1)


@pytest.mark.parametrize("mode", MODES)
def test_missing_cut_and_extra_files_are_found(source: Path, convert: Convert, mode: str):
    out = convert(source, *MODES[mode])
    for name in sorted(names_in(out) - {"manifest.json"}):
        held = out.parent / "held"
        (out / name).rename(held)
        assert name in differences(out), name
        shutil.copy(held, out / name)
        if held.stat().st_size:
            os.truncate(out / name, held.stat().st_size - 1)
            assert name in differences(out), name
        (out / name).unlink()
        held.rename(out / name)
    run("verify", "--model", out)


def test_a_rewritten_source_is_found(source: Path, convert: Convert, rng: np.random.Generator):
    """Sampled blocks prove a small file whole."""
    out = convert(source, *ZERO)
    file = next(iter(sorted(source.glob("*.safetensors"))))
    good = file.read_bytes()
    for at in (0, 9, 100, len(good) - 1):
        flip(file, at)
        assert file.name in differences(out)
        flip(file, at)
    run("verify", "--model", out)
    flip(file, len(good) - 1)
    assert file.name in differences(out, "--source", source)
    done = run("convert", "-i", source, "-o", source.parent / "again", *ZERO)
    assert done.returncode == 0


def test_what_each_proof_finds_and_verify_says_which_it_had(tmp_path: Path, convert: Convert):
    """Between two samples of a large file only a full digest, or the source, tells."""
    source = write_checkpoint(tmp_path / "source", {"a": Raw("BF16", (1 << 21,))})
    plain, summed = (convert(source, *ZERO, "--link", "copy", *more) for more in ((), ("--sha256",)))
    at = (source / "model.safetensors").stat().st_size - 40_000
    for out in (plain, summed):
        flip(out / "model.safetensors", at)
    done = run("verify", "--model", plain)
    assert "samples" in done.stdout + done.stderr
    assert "model.safetensors" in differences(plain, "--source", source)
    assert "model.safetensors" in differences(summed)
    for out in (plain, summed):
        flip(out / "model.safetensors", at)
    done = run("verify", "--model", summed)
    assert "SHA-256" in done.stdout + done.stderr
    run("verify", "--model", plain, "--source", source)


def test_another_source_is_found(source: Path, tmp_path: Path, convert: Convert, model: dict[str, Array]):
    other = model | {"layers.1.weight": model["layers.1.weight"] + 1}
    write_checkpoint(tmp_path / "other", other, 2)
    for mode in MODES.values():
        out = convert(source, *mode)
        assert "layers.1.weight" in differences(out, "--source", tmp_path / "other")


# What is refused


def refused(source: Path, out: Path, *options: object, code: int = 3) -> str:
    done = run("convert", "-i", source, "-o", out, *options, code=code)
    assert not out.exists()
    return done.stderr


def test_names_that_cannot_be_folders_are_refused_together(tmp_path: Path):
    names = ["a/b", "back\\slash", ".", "..", "d", "_METADATA", "manifest.ocdbt", "x.__lock", "n" * 256]
    source = write_checkpoint(tmp_path / "source", {name: np.int8([1]) for name in [*names, "fine"]})
    said = refused(source, tmp_path / "out", *DATA, "--no-ocdbt")
    assert all(name[:40] in said or name.replace("\\", "\\\\") in said for name in names)
    assert "fine" not in said
    run("convert", "-i", source, "-o", tmp_path / "out", *DATA)
    assert BARE["standard"](tmp_path / "out").keys() == {*names, "fine"}


def test_names_that_lie_inside_another_array_are_refused(tmp_path: Path):
    for inner in ("a/.zarray", "a/0"):
        source = write_checkpoint(tmp_path / "source", {"a": np.int8([1]), inner: np.int8([2])})
        done = run("convert", "-i", source, "-o", tmp_path / "out", *DATA, code=None)
        if done.returncode == 0:
            assert_tree(BARE["standard"](tmp_path / "out"), {"a": np.int8([1]), inner: np.int8([2])})
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_more_axes_than_tensorstore_has_are_refused(tmp_path: Path):
    source = write_checkpoint(tmp_path / "source", {"deep": Raw("U8", (1,) * 33), "fine": Raw("U8", (1,) * 32)})
    for mode in (DATA, ZERO):
        said = refused(source, tmp_path / "out", *mode)
        assert "deep" in said
        assert "32" in said
        run("convert", "-i", source, "-o", tmp_path / "fine", *mode, "--include", "fine")
        assert BARE["standard"](tmp_path / "fine")["fine"].ndim == 32
        shutil.rmtree(tmp_path / "fine")


def test_six_bit_floats_are_refused_by_name(tmp_path: Path):
    source = write_checkpoint(tmp_path / "source", {"codes": Raw("F6_E2M3", (4,), bytes(3))})
    for mode in (DATA, ZERO):
        assert "codes" in refused(source, tmp_path / "out", *mode)


def test_names_that_are_leaf_and_node_are_refused_when_nested(tmp_path: Path):
    source = write_checkpoint(tmp_path / "source", {"a": np.int8([1]), "a.b": np.int8([2])})
    assert "a.b" in refused(source, tmp_path / "out", *DATA, "--tree", "nested")
    assert "a.b" in refused(source, tmp_path / "out", *DATA, "--tree", "lists")
    run("convert", "-i", source, "-o", tmp_path / "out", *DATA)
    assert len(BARE["standard"](tmp_path / "out")) == 2


@pytest.mark.parametrize("item", ["", ".", "..", "a/b", "d", "x.__lock", "manifest.json"])
def test_items_that_cannot_be_folders_are_refused(source: Path, tmp_path: Path, item: str):
    refused(source, tmp_path / "out", *DATA, "--step", 1, "--item", item, code=2)


USAGE = [
    ("--zero-copy",),
    ("--step", "1"),
    ("--chunk-bytes", "1MiB"),
    ("--format", "orbax", "--link", "copy"),
    ("--format", "orbax", "--zero-copy", "--no-ocdbt"),
    ("--format", "orbax", "--zero-copy", "--link", "soft"),
    ("--format", "orbax", "--step", "-1"),
    ("--format", "orbax", "--step", "one"),
    ("--format", "orbax", "--orbax-layout", "v2"),
    ("--format", "orbax", "--wrap", "/params"),
    ("--format", "orbax", "--wrap", ""),
]


@pytest.mark.parametrize("options", USAGE, ids=" ".join)
def test_options_that_make_no_sense_are_usage_errors(source: Path, tmp_path: Path, options: tuple[str, ...]):
    refused(source, tmp_path / "out", *options, code=2)


@pytest.mark.parametrize(
    "sign",
    [
        "model-00001-of-00002.safetensors.incomplete",
        "model-00001-of-00002.safetensors.part",
        "model-00002-of-00002.safetensors.aria2",
        ".cache/huggingface/download/model-00001-of-00002.safetensors.abc.incomplete",
    ],
)
def test_downloads_that_look_unfinished_are_refused(source: Path, tmp_path: Path, sign: str):
    (source / sign).parent.mkdir(parents=True, exist_ok=True)
    (source / sign).write_bytes(b"half")
    said = refused(source, tmp_path / "out", *ZERO, code=3)
    assert Path(sign).name in said or "unfinished" in said or "download" in said


def test_an_existing_output_is_refused_and_kept(source: Path, tmp_path: Path, convert: Convert):
    for mode in MODES.values():
        out = convert(source, *mode)
        before = tree_bytes(out)
        assert "--overwrite" in run("convert", "-i", source, "-o", out, *DATA, code=2).stderr
        assert tree_bytes(out) == before


def test_an_existing_step_is_refused_and_others_are_left_alone(source: Path, tmp_path: Path):
    run("convert", "-i", source, "-o", tmp_path / "out", *DATA, "--step", 1)
    before = tree_bytes(tmp_path / "out" / "1")
    run("convert", "-i", source, "-o", tmp_path / "out", *DATA, "--step", 1, code=2)
    run("convert", "-i", source, "-o", tmp_path / "out", *ZERO, "--step", 2)
    assert tree_bytes(tmp_path / "out" / "1") == before
    assert sorted(os.listdir(tmp_path / "out")) == ["1", "2"]


def test_a_foreign_folder_is_never_touched(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    (out / "d").mkdir(parents=True)
    (out / "d" / "thesis.tex").write_text("years of work")
    for options in ((), ("--overwrite",)):
        for mode in MODES.values():
            run("convert", "-i", source, "-o", out, *mode, *options, code=2)
            assert names_in(out) == {"d/thesis.tex"}


@pytest.mark.parametrize("old", MODES)
@pytest.mark.parametrize("new", MODES)
def test_overwrite_exchanges_an_output_for_another(
    source: Path, convert: Convert, model: dict[str, Array], old: str, new: str
):
    out = convert(source, *MODES[old], "--zarr3")
    (out / "notes.txt").write_text("mine")
    (out / "d").mkdir(exist_ok=True)
    (out / "d" / "notes.txt").write_text("mine, too")
    run("convert", "-i", source, "-o", out, *MODES[new], "--overwrite")
    fresh = convert(source, *MODES[new])
    assert names_in(out) == names_in(fresh) | {"notes.txt", "d/notes.txt"}
    assert_tree(BARE["standard"](out), tree_of(model))
    run("verify", "--model", out, "--source", source)
    assert tree_bytes(source).keys() >= {"model-00001-of-00002.safetensors"}


def test_overwrite_goes_from_format_to_format(source: Path, convert: Convert, model: dict[str, Array]):
    out = convert(source)
    for options in (DATA, ZERO, ("--format", "safetensors"), (*ZERO, "--precision", "keep"), ()):
        run("convert", "-i", source, "-o", out, *options, "--overwrite")
        run("verify", "--model", out, "--source", source)
        assert list(out.parent.glob("*partial*")) == []
    assert sorted(path.name for path in out.glob("*")) == sorted(path.name for path in convert(source).glob("*"))


# Kills


def process(source: Path, out: Path, *options: object) -> subprocess.Popen[bytes]:
    command = [str(command_path()), "convert", "-i", str(source), "-o", str(out), *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_any_instant_the_output_is_whole_or_absent(
    tmp_path: Path, rng: np.random.Generator, how: signal.Signals, mode: str
):
    arrays = {f"t{n}": small_floats(rng, "F32", (256, 64)) for n in range(20)}
    source, out = write_checkpoint(tmp_path / "source", arrays, 3), tmp_path / "out"
    before = tree_bytes(source)
    options = (*MODES[mode], "--precision", "bfloat16", "--keep-dtype", "t1*")
    start = time.monotonic()
    run("convert", "-i", source, "-o", out, *options)
    usual = time.monotonic() - start
    for step in range(16):  # the first eight: to a new folder; then over the old one, with a file that is not ours
        over = step >= 8
        if not over:
            shutil.rmtree(out, ignore_errors=True)
        elif step == 8:
            run("convert", "-i", source, "-o", out, *options, "--overwrite")
            (out / "notes.txt").write_text("mine")
        running = process(source, out, *options, "--overwrite", *(("--chunk-bytes", 8192 + step) if step % 2 else ()))
        time.sleep(usual * (step % 8) / 7)
        running.send_signal(how)
        code = running.wait()
        assert code in (0, -how, 128 + how)
        if (out / "manifest.json").exists():
            run("verify", "--model", out, "--source", source, code=None if (over and how == signal.SIGKILL) else 0)
        else:
            assert over or not out.exists(), "a folder of the final name without a manifest"
    run("convert", "-i", source, "-o", out, *options, "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    run("verify", "--model", out, "--source", source)
    assert tree_bytes(source) == before


def test_killed_while_it_writes_nothing_looks_finished(tmp_path: Path):
    file = write_safetensors(tmp_path / "model.safetensors", {f"t{n}": Raw("F32", (1 << 20,)) for n in range(60)})
    out = tmp_path / "out"
    for _ in range(10):  # on a busy machine it may be finished before it is killed
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(tmp_path / "out.tensorport-partial", ignore_errors=True)
        running = process(file, out, *DATA, "--workers", "1")
        while running.poll() is None and not list(tmp_path.glob("out.tensorport-partial/d/*")):
            time.sleep(0.001)
        running.kill()
        if running.wait() == -signal.SIGKILL and not out.exists():
            break
    assert running.returncode == -signal.SIGKILL
    assert not out.exists()
    partial = tmp_path / "out.tensorport-partial"
    assert not (partial / "commit_success.txt").exists()
    run("verify", "--model", partial, code=2)
    assert "out.tensorport-partial" in run("convert", "-i", file, "-o", out, *DATA, code=2).stderr
    run("convert", "-i", file, "-o", out, *DATA, "--overwrite")
    run("verify", "--model", out)
    assert not partial.exists()


def test_the_source_is_never_written_to(tmp_path: Path, rng: np.random.Generator):
    source = write_checkpoint(tmp_path / "source", small_model(rng), 2)
    before, times = tree_bytes(source), {path: path.stat().st_mtime_ns for path in source.iterdir()}
    for number, mode in enumerate([*MODES.values(), *[(*ZERO, "--link", link) for link in LINKS]]):
        out = tmp_path / f"out{number}"
        run("convert", "-i", source, "-o", out, *mode)
        run("convert", "-i", source, "-o", out, *mode, "--overwrite", "--precision", "bfloat16", "--sync")
        shutil.rmtree(out)
    assert tree_bytes(source) == before
    assert {path: path.stat().st_mtime_ns for path in source.iterdir()} == times


@pytest.mark.parametrize("output", ["msgpack", "safetensors", "orbax", "jax"])
def test_a_model_without_a_value_has_sums(tmp_path: Path, output: str):
    """No file, or none with data: nothing is to be hashed, and nobody is to do it."""
    write_checkpoint(tmp_path / "in", {"empty": np.zeros((0, 3), np.float32)})
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "--format", output, "--sha256", "--workers", "4"]
    run("convert", "-q", *words, "--precision", "keep")
    assert tensorport.load(tmp_path / "out")["empty"].shape == (0, 3)

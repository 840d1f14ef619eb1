# SPDX-License-Identifier: MIT
"""`convert --format orbax`, large: many tensors, a tensor above 2^32 bytes, and releases of Orbax from two years.

Old releases are in environments of their own, build/orbax-VERSION (tools/old_orbax.sh); where one could not be made,
the test is skipped and says why.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from orbax_readers import BARE, LIKE, assert_tree, on_axis, shapes_of

import tensorport
from conftest import DTYPES, REFUSED, ROOT, Raw, random_array, run, small_floats, write_checkpoint

pytestmark = pytest.mark.long

DATA: tuple[str, ...] = ("--format", "orbax")
ZERO = (*DATA, "--zero-copy")


@pytest.mark.parametrize("mode", [DATA, ZERO], ids=["data", "zero-copy"])
def test_50_000_tensors(tmp_path: Path, rng: np.random.Generator, mode: tuple[str, ...]):
    values = rng.standard_normal((50_000, 8)).astype(np.float32)
    arrays = {f"model.layers.{n // 100}.experts.{n % 100}.weight": values[n] for n in range(50_000)}
    source = write_checkpoint(tmp_path / "source", arrays, 4)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run("convert", "-i", source, "-o", tmp_path / "out", *mode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    run("verify", "--model", tmp_path / "out", "--source", source)
    assert_tree(tensorport.load(tmp_path / "out"), arrays)
    assert_tree(BARE["standard"](tmp_path / "out"), arrays)


def touched(size: int) -> dict[int, bytes]:
    """Bytes that are not zero, at places where something might go wrong."""
    places = [0, (1 << 31) - 2, (1 << 32) - 2, (1 << 32) + 2, size - 4]
    return {at: bytes([at % 251 + 1, 60]) for at in places}


@pytest.mark.parametrize("mode", [DATA, ZERO], ids=["data", "zero-copy"])
def test_a_tensor_above_2_to_the_32_bytes(tmp_path: Path, mode: tuple[str, ...]):
    shape = (8, 1 << 15, 8194)
    size = int(np.prod(shape)) * 2
    source = write_checkpoint(tmp_path / "source", {"before": Raw("U8", (7,)), "large": Raw("BF16", shape)})
    with (source / "model.safetensors").open("r+b") as file:
        start = os.fstat(file.fileno()).st_size - size
        for at, data in touched(size).items():
            file.seek(start + at)
            file.write(data)
    run("convert", "-i", source, "-o", tmp_path / "out", *mode)
    run("verify", "--model", tmp_path / "out", "--source", source)
    row_bytes = shape[2] * 2
    if mode == DATA:
        large = BARE["standard"](tmp_path / "out")["large"]
    else:
        like = {"before": np.zeros(7, np.uint8), "large": jax.ShapeDtypeStruct(shape, "bfloat16")}
        large = LIKE["standard"](tmp_path / "out", shapes_of(like, on_axis(0)))["large"]
    with tensorport.open(tmp_path / "out") as checkpoint:
        for at in touched(size):
            row = at // row_bytes
            index = (row // shape[1], row % shape[1])
            mine = checkpoint["large"][index]
            assert np.asarray(large[index]).tobytes() == mine.tobytes()
            data = touched(size)[at]
            assert mine.tobytes()[at % row_bytes :][:2] == data


RELEASES = ["0.5.23", "0.6.4", "0.11.25"]
OUTPUTS = {
    "data": DATA,
    "zarr3": (*DATA, "--zarr3"),
    "plain": (*DATA, "--no-ocdbt"),
    "zero-copy": ZERO,
    "zero-copy-zarr3": (*ZERO, "--zarr3"),
    "step": (*ZERO, "--step", "4"),
}

# Runs in the old environment: its own Python, without pytest. Prints what differs.
READER = """
import json, os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, ml_dtypes, numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
assert ocp.__version__ == sys.argv[1], ocp.__version__
mesh = Mesh(np.array(jax.devices()), ("x",))
rows = json.load(open(sys.argv[2] + "/expected.json"))
wanted = {name: np.frombuffer(bytes.fromhex(data), getattr(ml_dtypes, dtype, None) or dtype).reshape(shape)
          for name, (dtype, shape, data) in rows.items()}

def sharding(array):
    cut = array.ndim and array.shape[0] and array.shape[0] % 4 == 0
    return NamedSharding(mesh, P("x") if cut else P())

def shape(array, **more):
    return jax.ShapeDtypeStruct(array.shape, array.dtype, **more)

def compare(what, found):
    found = {name: np.asarray(array) for name, array in found.items()}
    assert sorted(found) == sorted(wanted), (what, sorted(found))
    for name, array in wanted.items():
        other = found[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), (what, name, other.dtype, other.shape)
        assert other.tobytes() == array.tobytes(), (what, name)

plain = {name: shape(array) for name, array in wanted.items()}
cut = {name: shape(array, sharding=sharding(array)) for name, array in wanted.items()}
for folder in sys.argv[3:]:
    path = os.path.join(sys.argv[2], folder)
    if folder == "step":
        manager = ocp.CheckpointManager(path, item_handlers=ocp.StandardCheckpointHandler())
        assert manager.all_steps() == [4] and manager.latest_step() == 4
        compare(folder, manager.restore(4))
        compare(folder, manager.restore(4, args=ocp.args.StandardRestore(cut)))
        continue
    compare(folder + " standard", ocp.StandardCheckpointer().restore(path))
    compare(folder + " numpy", ocp.StandardCheckpointer().restore(path, plain))
    compare(folder + " sharded", ocp.StandardCheckpointer().restore(path, cut))
    compare(folder + " pytree", ocp.PyTreeCheckpointer().restore(path))
    arguments = ocp.checkpoint_utils.construct_restore_args(cut)
    compare(folder + " pytree sharded", ocp.PyTreeCheckpointer().restore(path, item=cut, restore_args=arguments))
print("ALL EQUAL")
"""


def old_python(release: str) -> Path:
    """The Python of an environment with that release, or a skip that says why there is none."""
    folder = Path(os.environ.get("TENSORPORT_OLD_ORBAX") or ROOT / "build") / f"orbax-{release}"
    why = folder / "missing"
    if why.exists() or not (folder / "bin" / "python").exists():
        pytest.skip(f"no Orbax {release}: {why.read_text().strip() if why.exists() else 'tools/old_orbax.sh not run'}")
    return folder / "bin" / "python"


@pytest.mark.parametrize("release", RELEASES)
def test_old_releases_of_orbax_restore_every_output(tmp_path: Path, rng: np.random.Generator, release: str):
    python = old_python(release)
    arrays: dict[str, Any] = {
        name: random_array(rng, name, (8, 6)) for name in DTYPES if name not in (*REFUSED, "F4", "F8_E8M0")
    }
    arrays |= {f"rank{rank}": random_array(rng, "I16", (2,) * rank) for rank in range(9)}
    arrays |= {"empty": np.zeros((3, 0), np.float32), "with space é": small_floats(rng, "F32", (4,))}
    arrays["chunked"] = random_array(rng, "BF16", (1024, 1024))
    odd = {"F4": random_array(rng, "F4", (4, 6)), "F8_E8M0": random_array(rng, "F8_E8M0", (4, 6))}
    source = write_checkpoint(tmp_path / "source", arrays | odd, 3)
    for name, options in OUTPUTS.items():  # --compat: what this release's TensorStore may not know, as uint8
        run("convert", "-i", source, "-o", tmp_path / name, *options, "--compat")
    stored = {name: np.asarray(array) for name, array in BARE["standard"](tmp_path / "data").items()}
    rows = {name: (array.dtype.name, array.shape, array.tobytes().hex()) for name, array in stored.items()}
    (tmp_path / "expected.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [str(python), "-c", READER, release, str(tmp_path), *OUTPUTS], capture_output=True, text=True, check=False
    )
    assert "ALL EQUAL" in done.stdout, done.stderr[-4000:]

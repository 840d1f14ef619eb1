# SPDX-License-Identifier: MIT
"""Orbax checkpoints: how fast they are written, and how fast Orbax restores them, beside what Orbax writes itself.

    1  2 GiB of bfloat16 to data files, beside cp and the copy limit of the machine
    2  --zero-copy of the same, and of a sparse checkpoint of 100 GB, beside reading the headers alone
    3  StandardCheckpointer.restore of the same arrays as Orbax wrote them, from our data files, and from the originals;
       each in a process of its own: seconds, CPU seconds, bytes read, peak memory

All interleaved, as in bench.py, which says why. Needs JAX and Orbax (build/venv).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import checkpoints

from bench import Contestant, apart, interleave, parse_size, table

MIB = 1 << 20

SAVE = """
import sys
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
sys.path.insert(0, sys.argv[1])
import tensorport
with tensorport.open(sys.argv[2], mmap=True) as checkpoint, ocp.StandardCheckpointer() as writer:
    writer.save(sys.argv[3], {name: tensor.numpy() for name, tensor in checkpoint.items()})
"""

RESTORE = """
import json, os, resource, sys, time
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

path, axis = sys.argv[1], sys.argv[2]
mesh = Mesh(np.array(jax.devices()), ("x",))
with ocp.StandardCheckpointer() as reader:
    meta = reader.metadata(path).item_metadata
    def shape(array):
        spec = P() if len(array.shape) < 2 else P("x") if axis == "0" else P(None, "x")
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=NamedSharding(mesh, spec))
    like = None if axis == "bare" else jax.tree.map(shape, dict(meta.items()))
    jax.block_until_ready(jax.device_put(np.zeros(8, np.float32)))
    def used():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime, int(open("/proc/self/io").read().split()[1])
    cpu, read = used()
    start = time.perf_counter()
    found = reader.restore(path) if like is None else reader.restore(path, like)
    jax.block_until_ready(found)
    seconds = time.perf_counter() - start
    after = used()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("FOUND" + json.dumps([seconds, after[0] - cpu, (after[1] - read) / 2**20, peak]))
"""


# ---- Writing -------------------------------------------------------------------------------------------------------


def bench_data_files(scratch: Path, source: Path, args: argparse.Namespace) -> None:
    files = sorted(str(p) for p in source.glob("*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    convert = [args.bin, "convert", "--quiet", "-i", str(source), "--format", "orbax", "--workers", str(args.workers)]
    contestants = [
        Contestant("cp", lambda out: ["cp", *files, str(out)]),
        Contestant("copy limit", lambda out: [args.copy_limit, str(args.workers), "512", str(out), *files]),
        Contestant("convert --skip-verify", lambda out: [*convert, "--skip-verify", "-o", str(out)], True),
        Contestant("convert", lambda out: [*convert, "-o", str(out)], True),
    ]
    print(f"{size / 1e9:.2f} GB of bfloat16 to Orbax data files, {args.workers} workers, {args.rounds} rounds:")
    interleave(contestants, args.rounds, scratch)
    table(contestants, size)


def make_sparse(folder: Path, size_bytes: int) -> None:
    """Files of 5 GB that are holes but for their headers: rows of 16384 bf16 values, seven matrices a layer."""
    folder.mkdir(parents=True)
    count = max(1, size_bytes // (5 * 10**9))
    for number in range(count):
        header: dict[str, object] = {}
        at = 0
        while at < 5 * 10**9:
            end = at + 2 * 4096 * 16384
            name = f"model.layers.{number}.block.{len(header)}.weight"
            header[name] = {"dtype": "BF16", "shape": [4096, 16384], "data_offsets": [at, end]}
            at = end
        text = json.dumps(header).encode()
        with open(folder / f"model-{number + 1:05}-of-{count:05}.safetensors", "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + at)


def bench_zero_copy(scratch: Path, source: Path, args: argparse.Namespace) -> None:
    sparse = scratch / "sparse"
    make_sparse(sparse, args.sparse)
    for folder in (source, sparse):
        size = sum(os.path.getsize(f) for f in folder.glob("*.safetensors"))
        command = [args.bin, "convert", "--quiet", "-i", str(folder), "--format", "orbax", "--zero-copy"]

        def headers(_: Path, folder: Path = folder) -> list[str]:
            return [args.bin, "inspect", str(folder)]

        def unchecked(out: Path, command: list[str] = command) -> list[str]:
            return [*command, "--skip-verify", "-o", str(out)]

        def convert(out: Path, command: list[str] = command) -> list[str]:
            return [*command, "-o", str(out)]

        contestants = [
            Contestant("headers alone (inspect)", headers),
            Contestant("convert --skip-verify", unchecked, True),
            Contestant("convert", convert, True),
        ]
        interleave(contestants, 2 * args.rounds, scratch)
        print(f"{size / 1e9:.2f} GB with --zero-copy: {'best ms':>12}{'median ms':>12}")
        for c in contestants:
            print(f"  {c.name:<30}{1000 * min(c.seconds):11.1f}{1000 * statistics.median(c.seconds):12.1f}")
    shutil.rmtree(sparse)


# ---- Restoring -----------------------------------------------------------------------------------------------------


def restore(path: Path, axis: str) -> list[float]:
    """Seconds, CPU seconds, MiB read, MiB of peak memory."""
    done = subprocess.run([sys.executable, "-c", RESTORE, str(path), axis], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: restoring {path} failed:\n{done.stderr[-4000:]}")
    found: list[float] = json.loads(done.stdout[done.stdout.index("FOUND") + 5 :])
    return found


def bench_restoring(scratch: Path, source: Path, args: argparse.Namespace) -> None:
    data, zero, own = scratch / "data", scratch / "zero", scratch / "orbax"
    convert = [args.bin, "convert", "--quiet", "-i", str(source), "--format", "orbax"]
    subprocess.run([*convert, "-o", str(data)], check=True)
    subprocess.run([*convert, "--zero-copy", "-o", str(zero)], check=True)
    package = str(Path(__file__).resolve().parent.parent / "python")
    apart(lambda: subprocess.run([sys.executable, "-c", SAVE, package, str(data), str(own)], check=True) and None)
    checkpoints_of: dict[str, Path] = {"written by Orbax": own, "data files": data, "zero-copy": zero}
    print(f"StandardCheckpointer.restore of the same arrays, 4 CPU devices, {args.restores} rounds:")
    print(f"  {'':<30}{'best s':>8}{'median s':>10}{'CPU s':>8}{'MiB read':>10}{'peak MiB':>10}")
    for axis, what in (("bare", "as NumPy arrays"), ("0", "sharded on axis 0"), ("1", "sharded on axis 1")):
        found: dict[str, list[list[float]]] = {name: [] for name in checkpoints_of}
        names = list(checkpoints_of)
        for number in range(args.restores + 1):  # the first warms up
            for i in range(len(names)):
                name = names[(i + number) % len(names)]
                row = restore(checkpoints_of[name], axis)
                if number > 0:
                    found[name].append(row)
        print(f"  {what}:")
        for name, rows in found.items():
            seconds, cpu, read, peak = zip(*rows, strict=True)
            print(
                f"    {name:<28}{min(seconds):8.2f}{statistics.median(seconds):10.2f}{min(cpu):8.2f}"
                f"{min(read):10.0f}{max(peak):10.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where to work (default: a new temporary folder)")
    parser.add_argument("--bin", default="build/tensorport", help="the command (%(default)s)")
    parser.add_argument("--copy-limit", default="build/release/bench/copy_limit", help="the program (%(default)s)")
    parser.add_argument("--size", type=parse_size, default="2GiB", help="of the checkpoint (2GiB)")
    parser.add_argument("--sparse", type=parse_size, default="100GB", help="of the sparse one (100GB)")
    parser.add_argument("--rounds", type=int, default=5, help="of writing, of two runs that count (%(default)s)")
    parser.add_argument("--restores", type=int, default=5, help="of restoring, besides a warm-up (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="and threads of the copy limit (%(default)s)")
    args = parser.parse_args()
    args.bin, args.copy_limit = os.path.abspath(args.bin), os.path.abspath(args.copy_limit)
    scratch = Path(tempfile.mkdtemp(prefix="tensorport-bench-", dir=args.folder))

    try:
        apart(lambda: checkpoints.make_large(scratch / "large", args.size))
        bench_data_files(scratch, scratch / "large", args)
        bench_zero_copy(scratch, scratch / "large", args)
        bench_restoring(scratch, scratch / "large", args)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()

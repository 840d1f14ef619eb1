# SPDX-License-Identifier: MIT
"""Whole conversions, beside `cp` and the copy limit of the machine (bench/copy_limit.c), in one interleaved run.

A figure alone says little: page caches, virtual machines that give memory back, and neighbours move it by a factor of
five. So every round runs every contestant, the order turns from round to round, and the best of each is compared with
the best of the others. Nothing here is a test; it prints what it saw.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MIB = 1 << 20


# ---- Checkpoints ---------------------------------------------------------------------------------------------------


def weights(count_bytes: int) -> Iterator[bytes]:
    """bf16 values between 2^-15 and 2 in magnitude: like weights, and all of them fit float16."""
    block = bytearray(os.urandom(MIB))
    block[1::2] = block[1::2].translate(bytes((b & 0x80) | 0x38 | (b & 0x07) for b in range(256)))
    for done in range(0, count_bytes, MIB):
        turn = done // MIB * 2 % MIB  # no two blocks alike, and yet the random generator is not what we wait for
        yield bytes(block[turn:] + block[:turn])[: count_bytes - done]


def write_safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header: dict[str, object] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for block in weights(at):
            file.write(block)


def make_large(folder: Path, size_bytes: int) -> None:
    """Layers of two 4096 x 4096 matrices and a norm, over two files."""
    folder.mkdir(parents=True)
    rows, columns = 4096, 4096
    layers = max(1, size_bytes // (2 * 2 * rows * columns))
    weight_map = {}
    for part in range(2):
        name = f"model-{part + 1:05}-of-00002.safetensors"
        shapes: dict[str, list[int]] = {"model.norm.weight": [columns]} if part else {}
        for layer in range(layers * part // 2, layers * (part + 1) // 2):
            shapes[f"model.layers.{layer}.up.weight"] = [rows, columns]
            shapes[f"model.layers.{layer}.down.weight"] = [columns, rows]
            shapes[f"model.layers.{layer}.norm.weight"] = [columns]
        write_safetensors(folder / name, shapes)
        weight_map.update(dict.fromkeys(shapes, name))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def make_many(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    shapes = {f"model.layers.{i // 100}.experts.{i % 100}.weight": [8, 8] for i in range(count)}
    write_safetensors(folder / "model.safetensors", shapes)


def apart(make: Callable[[], None]) -> None:
    """In a process of its own: what it needs of memory must not count as the peak of the programs we start later."""
    pid = os.fork()
    if pid == 0:
        try:
            make()
            os._exit(0)
        except BaseException as error:
            print(f"bench: {error}", file=sys.stderr)
            os._exit(1)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit(1)


# ---- Runs ----------------------------------------------------------------------------------------------------------


def run(command: list[str], log: Path) -> tuple[float, float]:
    """Seconds and peak RSS in MiB (never less than this script's own: the kernel counts from before exec)."""
    to_log = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[to_log, (os.POSIX_SPAWN_DUP2, 1, 2)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"bench: {' '.join(command)} failed ({os.waitstatus_to_exitcode(status)}):\n{log.read_text()}")
    return seconds, usage.ru_maxrss / 1024


class Contestant:
    def __init__(self, name: str, command: Callable[[Path], list[str]], makes_folder: bool = False):
        self.name, self.command, self.makes_folder = name, command, makes_folder
        self.seconds: list[float] = []
        self.peak_mib = 0.0

    def go(self, scratch: Path, counts: bool) -> None:
        out = scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        if not self.makes_folder:
            out.mkdir()
        seconds, peak = run(self.command(out), scratch / "log")
        if counts:
            self.seconds.append(seconds)
            self.peak_mib = max(self.peak_mib, peak)


def interleave(contestants: list[Contestant], rounds: int, scratch: Path) -> None:
    for number in range(rounds + 1):  # the first warms up
        for i in range(len(contestants)):
            contestants[(i + number) % len(contestants)].go(scratch, counts=number > 0)


def table(contestants: list[Contestant], size_bytes: int) -> None:
    best = {c.name: min(c.seconds) for c in contestants}
    print(f"  {'':<26}{'best s':>8}{'median s':>10}{'GB/s':>7}{'/ limit':>9}{'/ cp':>7}{'peak MiB':>10}")
    for c in contestants:
        ratios = f"{best[c.name] / best['copy limit']:9.2f}{best[c.name] / best['cp']:7.2f}"
        print(
            f"  {c.name:<26}{best[c.name]:8.3f}{statistics.median(c.seconds):10.3f}"
            f"{size_bytes / best[c.name] / 1e9:7.2f}{ratios}{c.peak_mib:10.1f}"
        )


# ---- The two measurements --------------------------------------------------------------------------------------------


def bench_large(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "large"
    apart(lambda: make_large(source, args.size))
    files = sorted(str(p) for p in source.glob("*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    convert = [args.bin, "convert", "--quiet", "-i", str(source), "--workers", str(args.workers)]  # default: float16
    contestants = [
        Contestant("cp", lambda out: ["cp", *files, str(out)]),
        Contestant("copy limit", lambda out: [args.copy_limit, str(args.workers), "512", str(out), *files]),
        Contestant("convert --skip-verify", lambda out: [*convert, "--skip-verify", "-o", str(out)], True),
        Contestant("convert", lambda out: [*convert, "-o", str(out)], True),
    ]
    print(f"{size / 1e9:.2f} GB of bfloat16 to float16, in page cache, {args.workers} workers, {args.rounds} rounds:")
    interleave(contestants, args.rounds, scratch)
    table(contestants, size)
    shutil.rmtree(source)


def bench_many(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "many"
    apart(lambda: make_many(source, args.tensors))
    convert = [args.bin, "convert", "--quiet", "-i", str(source), "--workers", str(args.workers)]
    contestants = [
        Contestant("convert --skip-verify", lambda out: [*convert, "--skip-verify", "-o", str(out)], True),
        Contestant("convert", lambda out: [*convert, "-o", str(out)], True),
    ]
    interleave(contestants, min(args.rounds, 5), scratch)
    print(f"{args.tensors:,} tensors of 64 values:")
    for c in contestants:
        print(f"  {c.name:<26}{min(c.seconds):8.3f}{statistics.median(c.seconds):10.3f}{c.peak_mib:33.1f}")
    shutil.rmtree(source)


def parse_size(text: str) -> int:
    units = {"MB": 10**6, "GB": 10**9, "MiB": MIB, "GiB": MIB << 10}
    for unit, factor in units.items():
        if text.endswith(unit):
            return int(float(text[: -len(unit)]) * factor)
    raise argparse.ArgumentTypeError("a size such as 2GiB or 500MB")


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where to work (default: a new temporary folder)")
    parser.add_argument("--bin", default="build/tensorport", help="the command (%(default)s)")
    parser.add_argument("--copy-limit", default="build/release/bench/copy_limit", help="the program (%(default)s)")
    parser.add_argument("--size", type=parse_size, default="2GiB", help="of the large checkpoint (2GiB)")
    parser.add_argument("--tensors", type=int, default=100_000, help="in the other one (%(default)s); 0: none")
    parser.add_argument("--rounds", type=int, default=7, help="besides a warm-up (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="and threads of the copy limit (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the working folder")
    args = parser.parse_args()
    args.bin, args.copy_limit = os.path.abspath(args.bin), os.path.abspath(args.copy_limit)

    scratch = Path(tempfile.mkdtemp(prefix="tensorport-bench-", dir=args.folder))
    try:
        print(f"{cpu_name()}, {os.cpu_count()} CPUs, Linux {platform.release()}, {scratch}")
        bench_large(scratch, args)
        if args.tensors:
            bench_many(scratch, args)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"GB/s: of output. Ratios: best to best. A peak of {own:.0f} MiB, this script's own, means that or less.")
    finally:
        if args.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    main()

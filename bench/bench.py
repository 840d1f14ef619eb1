# SPDX-License-Identifier: MIT
"""Whole conversions, beside `cp` and the copy limit of the machine (bench/copy_limit.c), in one interleaved run.

Casts, maps, many small tensors, and quantised weights decoded: gpt-oss's experts in both layouts, matrices of FP8.
What is decoded is larger than its source, so there cp and the copy limit copy the source again and again, as many bytes
as the conversion writes.

    bench.py --gpt-oss 24          gpt-oss-20b with its real names and shapes: needs 70 GB of disk; fewer layers, less

A figure alone says little: page caches, virtual machines that give memory back, and neighbours move it by a factor of
five. So every round runs every contestant, the order turns from round to round, the first of three runs in a row does
not count (it pays for what the one before gave back), and the best of each is compared with the best of the others.
Nothing here is a test; it prints what it saw.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import checkpoints
from checkpoints import MIB


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
        self.log = ""

    def go(self, scratch: Path, counts: bool) -> None:
        out = scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        if not self.makes_folder:
            out.mkdir()
        seconds, peak = run(self.command(out), scratch / "log")
        self.log = (scratch / "log").read_text()
        if counts:
            self.seconds.append(seconds)
            self.peak_mib = max(self.peak_mib, peak)


IN_A_ROW = 3  # runs of one contestant in a round; the first takes memory from the host again, and does not count


def interleave(contestants: list[Contestant], rounds: int, scratch: Path) -> None:
    for number in range(rounds):
        for i in range(len(contestants)):
            for turn in range(IN_A_ROW):
                contestants[(i + number) % len(contestants)].go(scratch, counts=turn > 0)


def table(contestants: list[Contestant], size_bytes: int) -> None:
    best = {c.name: min(c.seconds) for c in contestants}
    print(f"  {'':<26}{'best s':>8}{'median s':>10}{'GB/s':>7}{'/ limit':>9}{'/ cp':>7}{'peak MiB':>10}")
    for c in contestants:
        ratios = f"{best[c.name] / best['copy limit']:9.2f}{best[c.name] / best['cp']:7.2f}"
        print(
            f"  {c.name:<26}{best[c.name]:8.3f}{statistics.median(c.seconds):10.3f}"
            f"{size_bytes / best[c.name] / 1e9:7.2f}{ratios}{c.peak_mib:10.1f}"
        )


# ---- The measurements ------------------------------------------------------------------------------------------------


def bench_large(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "large"
    apart(lambda: checkpoints.make_large(source, args.size))
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


MAPS = {  # transposed, split, stacked and rotated: to near-square chunks, and to row-major files
    "maxtext, orbax": ["--map", "maxtext/llama"],
    "unscanned, orbax": ["--map", "maxtext-unscanned/llama"],
    "unscanned, msgpack": ["--map", "maxtext-unscanned/llama", "--format", "msgpack"],
    "maxtext, msgpack": ["--map", "maxtext/llama", "--format", "msgpack"],
}


def bench_maps(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "llama"
    apart(lambda: checkpoints.make_llama(source, max(2, args.size // 436_000_000)))
    files = sorted(str(p) for p in source.glob("*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    convert = [args.bin, "convert", "--quiet", "--skip-verify", "-i", str(source), "--workers", str(args.workers)]

    def conversion(name: str, options: list[str]) -> Contestant:
        return Contestant(name, lambda out: [*convert, *options, "-o", str(out)], makes_folder=True)

    contestants = [
        Contestant("cp", lambda out: ["cp", *files, str(out)]),
        Contestant("copy limit", lambda out: [args.copy_limit, str(args.workers), "512", str(out), *files]),
        *(conversion(name, options) for name, options in MAPS.items()),
    ]
    print(f"{size / 1e9:.2f} GB of Llama to MaxText's tree, {args.workers} workers, {args.rounds} rounds:")
    interleave(contestants, args.rounds, scratch)
    table(contestants, size)
    shutil.rmtree(source)


def bench_many(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "many"
    apart(lambda: checkpoints.make_many(source, args.tensors))
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


def copies(source: Path, rest: Path, size_bytes: int, args: argparse.Namespace) -> list[Contestant]:
    """`size_bytes` bytes by cp and by the copy limit: the files as often as they go into it, and a part of one."""
    files = sorted(source.glob("*.safetensors"))
    times, rest_bytes = divmod(size_bytes, sum(f.stat().st_size for f in files))
    with open(files[0], "rb") as whole, open(rest, "wb") as part:
        for done in range(0, rest_bytes, MIB):
            whole.seek(done % files[0].stat().st_size)
            part.write(whole.read(min(MIB, rest_bytes - done)))
    names = " ".join(f"'{f}'" for f in files)

    def cp(out: Path) -> list[str]:
        each = [f"mkdir '{out}/{i}' && cp {names} '{out}/{i}'" for i in range(times)]
        return ["sh", "-ec", "; ".join([*each, f"cp '{rest}' '{out}'"])]

    def limit(out: Path) -> list[str]:
        return [args.copy_limit, str(args.workers), "512", str(out), *[str(f) for f in files] * times, str(rest)]

    return [Contestant("cp", cp), Contestant("copy limit", limit)]


def bench_decoding(
    scratch: Path, args: argparse.Namespace, source: Path, size_bytes: int, layouts: tuple[str, ...]
) -> list[Contestant]:
    """`source`, whose parameters are `size_bytes` of bfloat16, decoded to each layout of MXFP4 experts."""
    convert = [args.bin, "convert", "--json", "--quiet", "--skip-verify", "--workers", str(args.workers)]
    convert += ["--dequantize", "--precision", "bfloat16", "-i", str(source)]

    def conversion(layout: str) -> Contestant:
        return Contestant(
            f"convert, {layout}", lambda out: [*convert, "--mxfp4-layout", layout, "-o", str(out)], makes_folder=True
        )

    conversions = [conversion(layout) for layout in layouts]
    contestants = [*copies(source, scratch / "rest", size_bytes, args), *conversions]
    print(f"{size_bytes / 1e9:.2f} GB of bfloat16, {args.workers} workers, {args.rounds} rounds:")
    interleave(contestants, args.rounds, scratch)
    table(contestants, size_bytes)
    shutil.rmtree(source)
    return conversions


def bench_experts(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "experts"
    experts = checkpoints.gpt_oss_experts(0)
    apart(lambda: checkpoints.make_gpt_oss(source, [experts]))
    print("gpt-oss's experts of a layer (MXFP4), decoded to ", end="")
    bench_decoding(scratch, args, source, 2 * checkpoints.gpt_oss_parameters([experts]), ("in-out", "out-in"))


def bench_fp8(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "fp8"
    apart(lambda: checkpoints.make_fp8(source, args.size))
    print("FP8 with a scale for each 128 x 128 block, decoded to ", end="")
    size = 2 * sum(f.stat().st_size for f in source.glob("*.safetensors")) // MIB * MIB  # but for scales and headers
    bench_decoding(scratch, args, source, size, ("in-out",))


def bench_gpt_oss(scratch: Path, args: argparse.Namespace) -> None:
    source = scratch / "gpt-oss"
    shards = checkpoints.gpt_oss_shards(args.gpt_oss)
    apart(lambda: checkpoints.make_gpt_oss(source, shards))
    sizes = tuple(f.stat().st_size for f in sorted(source.glob("*.safetensors")))
    known = args.gpt_oss == checkpoints.GPT_OSS_LAYERS
    if known and sizes != checkpoints.GPT_OSS_20B_FILES:
        sys.exit(f"bench: the files of gpt-oss-20b have {checkpoints.GPT_OSS_20B_FILES} bytes, these {sizes}")
    tensors = sum(len(shard) for shard in shards)
    print(
        f"gpt-oss-20b, layers: {args.gpt_oss}, tensors: {tensors}, files: {len(sizes)} with {sum(sizes) / 1e9:.2f} GB"
    )
    expected = checkpoints.gpt_oss_parameters(shards)
    (conversion,) = bench_decoding(scratch, args, source, 2 * expected, (args.layout,))
    found = json.loads(conversion.log)["parameters"]
    print(f"  {found:,} parameters" + ("" if found == expected else f": WRONG, expected {expected:,}"))
    if found != expected:
        sys.exit(1)


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
    parser.add_argument("--gpt-oss", type=int, default=0, metavar="LAYERS", help="gpt-oss-20b alone, of so many layers")
    parser.add_argument("--maps", action="store_true", help="maps alone")
    parser.add_argument("--layout", choices=["in-out", "out-in"], default="in-out", help="its experts' (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of two runs that count (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="and threads of the copy limit (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the working folder")
    args = parser.parse_args()
    args.bin, args.copy_limit = os.path.abspath(args.bin), os.path.abspath(args.copy_limit)

    scratch = Path(tempfile.mkdtemp(prefix="tensorport-bench-", dir=args.folder))
    try:
        print(f"{cpu_name()}, {os.cpu_count()} CPUs, Linux {platform.release()}, {scratch}")
        if args.gpt_oss:
            bench_gpt_oss(scratch, args)
        elif args.maps:
            bench_maps(scratch, args)
        else:
            bench_large(scratch, args)
            bench_experts(scratch, args)
            bench_fp8(scratch, args)
            bench_maps(scratch, args)
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

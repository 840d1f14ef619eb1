# SPDX-License-Identifier: MIT
"""Runs the fuzz targets under libFuzzer, for a while each. `make fuzz` calls it, after building them in build/fuzz.

    tools/fuzz.py [--time SECONDS] [--keep] [TARGET...]

A target starts with fuzz/corpus/TARGET.txt and with what earlier runs found (build/fuzz-found/TARGET). What breaks a
promise is kept as build/fuzz-found/TARGET-crash-..., and printed as a line for fuzz/corpus/TARGET.txt.
--keep runs nothing: it adds what was found, as far as it reaches code that the corpus does not, to
fuzz/corpus/TARGET.txt.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("TENSORPORT_FUZZ_BUILD", ROOT / "build" / "fuzz"))
FOUND = BUILD.parent / f"{BUILD.name}-found"
CORPUS = ROOT / "fuzz" / "corpus"
CORPUS_MAX = 13_000  # bytes of one corpus with what --keep adds
INPUT_MAX = 400  # bytes of an input that --keep adds
LIMITS = ["-timeout=20", "-rss_limit_mb=1500", "-malloc_limit_mb=300"]
# Targets that build something from their input: a few hundred decisions, long ones no better than short ones.
BUILDERS = {"convert", "folder", "msgpack", "quant"}
ENVIRONMENT = os.environ | {
    "ASAN_OPTIONS": "quarantine_size_mb=64:malloc_context_size=8",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def escape(data: bytes) -> str:
    """One line of a corpus (fuzz/replay.c reads it)."""
    text = "".join(chr(c) if 0x20 <= c < 0x7F and c != 0x5C else "\\\\" if c == 0x5C else f"\\x{c:02x}" for c in data)
    return f"\\x{ord(text[0]):02x}{text[1:]}" if text.startswith("#") else text


def unescape(line: str) -> bytes:
    """The bytes of a line."""
    return re.sub(r"\\(\\|x..)", lambda m: "\\" if m[1] == "\\" else chr(int(m[1][1:], 16)), line).encode("latin-1")


def inputs_of(target: str) -> list[bytes]:
    """The corpus of a target."""
    lines = (CORPUS / f"{target}.txt").read_text("ascii").split("\n")[:-1]
    return [unescape(line) for line in lines if not line.startswith("#")]


def unpack(target: str, folder: Path) -> None:
    """The corpus, a file an input, as libFuzzer wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs_of(target)):
        (folder / f"{number:04}").write_bytes(data)


def fuzzer(target: str, *arguments: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Run a target; files that it writes are in `folder`."""
    command = [str(BUILD / "fuzz" / f"fuzz_{target}"), *LIMITS, *arguments]
    return subprocess.run(
        command, env=ENVIRONMENT | {"TMPDIR": folder}, capture_output=True, text=True, errors="replace"
    )


def memory_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where there is one."""
    return tempfile.TemporaryDirectory(prefix="tensorport-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def number_after(word: str, log: str) -> int:
    """The last number that follows a word of libFuzzer's."""
    found = re.findall(rf"{re.escape(word)}\s*(\d+)", log)
    return int(found[-1]) if found else 0


def run(target: str, seconds: int) -> bool:
    """Fuzz one target; False: a promise was broken."""
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={found}-"]
    if target in BUILDERS:
        options += ["-max_len=600", "-len_control=0"]
    dictionary = ROOT / "fuzz" / "words.dict"
    options += ["-max_len=8192"] if target == "manifest" else []
    options += [f"-dict={dictionary}"] if target not in BUILDERS else []
    with memory_folder() as folder:
        unpack(target, Path(folder) / "seeds")
        start = time.monotonic()
        done = fuzzer(target, *options, str(found), f"{folder}/seeds", folder=folder)
        elapsed_s = time.monotonic() - start
    log = done.stderr
    edges = re.findall(r"cov: (\d+)", log)
    print(
        f"{target:12} {number_after('stat::number_of_executed_units:', log):10,} executions in"
        f" {elapsed_s:.0f} s, {edges[-1] if edges else '?'} edges, {len(list(found.iterdir()))} inputs,"
        f" {number_after('stat::peak_rss_mb:', log)} MB{'' if done.returncode == 0 else '  BROKEN'}",
        flush=True,
    )
    if done.returncode == 0:
        return True
    (FOUND / f"{target}.log").write_text(log)
    told = [line for line in log.split("\n") if re.search(r"does not hold|runtime error|ERROR|SUMMARY", line)]
    print("\n".join(f"    {line}" for line in told[:4]))
    for path in re.findall(r"Test unit written to (\S+)", log):
        data = Path(path).read_bytes()
        print(f"    {path} ({len(data)} bytes), the log is {FOUND / target}.log", flush=True)
        print(f"    {escape(data)}" if len(data) < INPUT_MAX else "    too long for a line; -minimize_crash=1 helps")
    return False


def keep(target: str) -> None:
    """Add to the corpus what reaches more, small inputs first."""
    known = inputs_of(target)
    with memory_folder() as folder:
        merged, candidates = Path(folder) / "merged", Path(folder) / "candidates"
        unpack(target, merged)
        candidates.mkdir()
        for path in (FOUND / target).iterdir():
            if path.stat().st_size <= INPUT_MAX:
                shutil.copy(path, candidates)
        fuzzer(target, "-set_cover_merge=1", str(merged), str(candidates), folder=folder)
        news = sorted({path.read_bytes() for path in merged.iterdir()} - set(known), key=lambda data: (len(data), data))
    path = CORPUS / f"{target}.txt"
    text = path.read_text("ascii")
    mark = "# Found by make fuzz.\n"
    if news and mark not in text:
        text += mark
    added = 0
    for data in news:
        if len(text) + len(escape(data)) > CORPUS_MAX:
            break
        text += escape(data) + "\n"
        added += 1
    path.write_text(text, "ascii")
    print(f"{target:12} {added} of {len(news)} added, {len(text):,} bytes", flush=True)


def main() -> int:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="fuzz targets under libFuzzer")
    parser.add_argument("--time", type=int, default=60, help="seconds a target")
    parser.add_argument("--keep", action="store_true", help="add what was found to the corpus")
    parser.add_argument("target", nargs="*")
    arguments = parser.parse_args()
    targets = arguments.target or sorted(path.stem for path in CORPUS.glob("*.txt"))
    if arguments.keep:
        for target in targets:
            keep(target)
        return 0
    broken = [target for target in targets if not run(target, arguments.time)]
    print(f"{len(targets) - len(broken)} passed, {len(broken)} failed")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

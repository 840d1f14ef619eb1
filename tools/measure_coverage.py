# SPDX-License-Identifier: MIT
"""Which lines and branches of src/ the short tier runs, in a build that counts (clang). `make coverage` calls it.

The C programs, the corpora of the fuzz targets among them, and the Python tests of the command. What is printed is a
table of files; build/coverage/html shows the lines. Kernels of a level that this machine's CPU has not got are left
out.
"""

import os
import shutil
import subprocess
import sys

import run_tests

DIR = run_tests.BUILD / "coverage"
COUNTS = DIR / "counts"
PROFILE = DIR / "all.profdata"
LIBRARY = DIR / "src" / "libtensorport.so"  # every function of the library; programs' counts are told by names


def absent_levels() -> str:
    """A pattern of the kernels' files that cannot run here."""
    with open("/proc/cpuinfo") as info:
        flags = set(info.read().split())
    levels = {"avx2": "avx2", "avx512": "avx512vl"}
    return "|".join(rf"x86/{name}\." for name, flag in levels.items() if flag not in flags) or "^$"


def llvm_cov(command: str, *options: str) -> str:
    """What llvm-cov says of the library."""
    common = [str(LIBRARY), f"-instr-profile={PROFILE}", f"-ignore-filename-regex={absent_levels()}"]
    done = subprocess.run(
        ["llvm-cov", command, *common, *options], check=True, capture_output=True, text=True, cwd=run_tests.ROOT
    )
    return done.stdout


def main() -> int:
    """Build, run, report; 1 if a test failed."""
    totals = run_tests.build("coverage")
    shutil.rmtree(COUNTS, ignore_errors=True)
    COUNTS.mkdir(parents=True)
    os.environ["LLVM_PROFILE_FILE"] = str(COUNTS / "%4m.profraw")
    if not totals.failures:
        totals.add(run_tests.run_meson("coverage", run_tests.ALL))
        totals.add(run_tests.run_pytest("coverage"))
        raw = [str(path) for path in COUNTS.iterdir()]
        subprocess.run(["llvm-profdata", "merge", "-sparse", *raw, "-o", str(PROFILE)], check=True)
        print(llvm_cov("report", "-show-functions=false", "-show-region-summary=false"))
        llvm_cov("show", "-format=html", f"-output-dir={DIR / 'html'}", "-show-branches=count")
    for failure in totals.failures:
        print(f"failed: {failure}")
    print(totals.line(), flush=True)
    return 1 if totals.failures else 0


if __name__ == "__main__":
    sys.exit(main())

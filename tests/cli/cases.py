# SPDX-License-Identifier: MIT
"""Runs the command as a user types it and compares every byte it prints: the files cases/*.case.

A case is a text file:

    # The fact that it shows.
    input: tiny damaged             checkpoints.py makes these folders in the scratch folder
    $ tensorport inspect tiny       run by sh, in that folder; several lines are one script
    exit: 0
    leaves: out                     what may be there afterwards besides the input
    stdout:                         without this heading nothing may be printed there
      3 tensors, *                  "*" is any text within a line
      ...                           any number of lines
    stderr:

It needs nothing but Python: `python3 tests/cli/cases.py BINARY [CASE...]`. `make test` runs them through pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import checkpoints

FOLDER = Path(__file__).resolve().parent / "cases"
# What would change the output.
UNWANTED = ("TENSORPORT_CPU", "NO_COLOR", "COLUMNS", "POSIXLY_CORRECT", "LC_ALL", "LANG")


@dataclass
class Case:
    """One file."""

    inputs: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)
    exit: int = 0
    leaves: set[str] = field(default_factory=set)
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


def parse(text: str) -> Case:
    """Read a case; a line that belongs to nothing is an error of the case."""
    case = Case()
    section: list[str] | None = None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if section is not None and (line.startswith("  ") or not line):
            section.append(line[2:])
        elif line.startswith("$ "):
            case.script.append(line[2:])
        elif key in ("stdout", "stderr"):
            section = getattr(case, key)
        elif key == "input":
            case.inputs = value.split()
        elif key == "exit":
            case.exit = int(value)
        elif key == "leaves":
            case.leaves = set(value.split())
        elif line and not line.startswith("#"):
            raise ValueError(f"what is this? {line}")
    return case


def pattern(lines: list[str]) -> str:
    """The lines as one regular expression."""
    parts = []
    for line in lines:
        any_text = ".*".join(re.escape(part) for part in line.split("*"))
        parts.append(r"(?:.*\n)*" if line == "..." else any_text + r"\n")
    return "".join(parts)


def environment(binary: Path, bin_folder: Path) -> dict[str, str]:
    """A plain environment in which `tensorport` is the binary."""
    (bin_folder / "tensorport").symlink_to(binary)
    kept = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    return kept | {"PATH": f"{bin_folder}:{os.environ.get('PATH', '')}", "TERM": "dumb", "LC_ALL": "C"}


def compare(what: str, expected: list[str], found: str) -> list[str]:
    """No words if it matches."""
    if re.fullmatch(pattern(expected), found):
        return []
    return [
        f"{what}, expected:",
        *(f"  {line}" for line in expected),
        f"{what}, found:",
        *(f"  {line}" for line in found.splitlines()),
    ]


def run(path: Path, binary: Path) -> list[str]:
    """Run one case in folders of its own; returns what is wrong, as lines."""
    case = parse(path.read_text())
    with tempfile.TemporaryDirectory(prefix="tensorport-case-") as place:
        scratch = Path(place) / "scratch"
        bin_folder = Path(place) / "bin"
        scratch.mkdir()
        bin_folder.mkdir()
        for name in case.inputs:
            checkpoints.MAKERS[name](scratch / name)
        done = subprocess.run(
            ["sh", "-c", "\n".join(case.script)],
            cwd=scratch,
            env=environment(binary, bin_folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        faults = [] if done.returncode == case.exit else [f"exit code {done.returncode}, expected {case.exit}"]
        faults += compare("stdout", case.stdout, done.stdout)
        faults += compare("stderr", case.stderr, done.stderr)
        left = {entry.name for entry in scratch.iterdir()} - set(case.inputs)
        if left != case.leaves:
            faults.append(f"left behind: {sorted(left)}, expected {sorted(case.leaves)}")
        return faults


def main(arguments: list[str]) -> int:
    """Run the cases named, or all."""
    binary = Path(arguments[0]).resolve(strict=True)
    paths = [FOLDER / f"{name}.case" for name in arguments[1:]] or sorted(FOLDER.glob("*.case"))
    failed = 0
    for path in paths:
        faults = run(path, binary)
        failed += bool(faults)
        print(f"{'FAILED' if faults else 'ok':6} {path.stem}", *faults, sep="\n       ")
    print(f"{len(paths) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

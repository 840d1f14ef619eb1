# SPDX-License-Identifier: MIT
"""Every malformed, hostile or merely unusual checkpoint of malformed.py through every command that reads one.

A refusal is exit code 3 with one message that names the file, and the tensor where there
is one; nothing on stdout, no output. A warning is exit code 0 and a line that says so. Sound files are silent.
The loader reads outputs alone, and takes none of these for one.

The short tier runs this file twice, with the plain command and with the one built with AddressSanitizer and UBSan.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from malformed import ACCEPT, EXIT, FILES, FOLDERS, REJECT, WARN, Case, make_all, simple

import tensorport
from conftest import command_path

VERDICTS = [
    *((name, verdict) for name, (verdict, *_) in FILES.items()),
    *((name, verdict) for name, verdict, *_ in FOLDERS),
]
NAMES = [name for name, _ in VERDICTS]
REFUSED = [name for name, verdict in VERDICTS if verdict == REJECT]
NOT_CONVERTED = {"g10"}  # six-bit floats: sound, can be looked at, have no documented bit order


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """All checkpoints, made once."""
    return {case.name: case for case in make_all(tmp_path_factory.mktemp("malformed"))}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it; a minute is a hang."""
    return subprocess.run(
        [str(command_path()), *map(str, arguments)], capture_output=True, encoding="utf-8", check=False, timeout=60
    )


def check(case: Case, done: subprocess.CompletedProcess[str], code: int) -> None:
    """What the terminal shows is what the case deserves."""
    said = done.stderr
    assert done.returncode == code, said
    assert not any(c < " " and c != "\n" for c in said + done.stdout), "a name reached the terminal raw"
    if code == 0:
        assert ("warning" in said) == (case.verdict == WARN), said
        assert all(words in said for words in case.says), said
        return
    assert done.stdout == ""
    assert said.count("tensorport: ") == 1, said
    if case.verdict == ACCEPT:
        return
    assert all(words in said for words in case.says), said
    assert f"{case.path}" in said or f"{case.path.parent}" in said, said
    assert not case.tensor or f"tensor '{case.tensor}" in said, said


@pytest.mark.parametrize("name", NAMES)
def test_inspect_says_what_is_wrong(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    check(case, run("inspect", case.path), EXIT[case.verdict])


@pytest.mark.parametrize("name", NAMES)
def test_convert_says_the_same_and_makes_nothing(cases: dict[str, Case], tmp_path: Path, name: str) -> None:
    case = cases[name]
    code = 3 if name in NOT_CONVERTED else EXIT[case.verdict]
    check(case, run("convert", "-i", case.path, "-o", tmp_path / "out", "--dry-run"), code)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands want beside a source: `out`, an output, and `map.json`, that keeps every name."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "model.safetensors").write_bytes(simple("t"))
    made = run("convert", "-i", folder / "model.safetensors", "-o", folder / "out", "--quiet")
    assert made.returncode == 0, made.stderr
    (folder / "map.json").write_text('{"tensorport_map": 1, "unmatched": "keep", "rules": [{"from": "t", "to": "t"}]}')
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_all_that_read_a_source_say_the_same(cases: dict[str, Case], sound: Path, name: str) -> None:
    case = cases[name]
    check(case, run("verify", "--model", sound / "out", "--source", case.path), 3)
    check(case, run("map", "check", sound / "map.json", "--input", case.path), 3)
    check(case, run("map", "explain", "t", "--map", sound / "map.json", "--input", case.path), 3)


def test_the_loader_takes_none_for_an_output(cases: dict[str, Case]) -> None:
    for case in cases.values():
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            tensorport.open(case.path)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES)) > 240

# SPDX-License-Identifier: MIT
"""One table gives parser, help, man page and completion: an option that is in one is in all of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command import run

COMMANDS = ("convert", "verify", "inspect", "map list", "map show", "map check", "map explain")
# The promise of the documentation; an option that disappears breaks scripts.
PROMISED = {
    "convert": "input output format precision keep-dtype on-overflow shard-size oversize workers max-memory "
    "skip-verify tree include exclude ignore-index overwrite dry-run compat progress quiet json sha256 sync cpu help "
    "map target reverse original resume wrap zero-copy link min-chunk chunk-bytes step item orbax-layout zarr3 "
    "no-ocdbt timestamp dequantize mxfp4-layout mxfp4-positive-zero decode-f16-first nan-scales",
    "verify": "model source map target reverse original quick verbose workers max-memory json progress quiet cpu help",
    "inspect": "json tensor all ignore-index help",
    "map list": "json help",
    "map show": "help",
    "map check": "input map target reverse against ignore-index all json help",
    "map explain": "input map target reverse ignore-index all json help",
}


def options_in_help(command: str) -> set[str]:
    return set(re.findall(r"^  (?:-\w, |    )--([a-z0-9-]+)", run(*command.split(), "--help").stdout, re.MULTILINE))


def completions(*words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = run("--completion", "bash").stdout + (
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; _tensorport\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("command", ["", "map", *COMMANDS])
def test_help_fits_80_columns_and_is_plain_ascii(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) < 80
    assert not [line for line in done.stdout.splitlines() if line.endswith(" ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_help_man_page_and_completion(command: str) -> None:
    promised = set(PROMISED[command].split())
    manual = run("--man").stdout.replace("\\-", "-").replace("\\fR", "").replace("\\fB", "")
    section = manual.split(f".SS tensorport {command} ")[1].split(".SS ")[0]
    assert options_in_help(command) == promised
    assert set(re.findall(r"^\.B (?:-\w, )?--([a-z0-9-]+)", section, re.MULTILINE)) == promised
    assert {word[2:] for word in completions("tensorport", *command.split(), "--")} == promised


def test_completion_knows_commands_and_choices() -> None:
    assert completions("tensorport", "") == ["convert", "verify", "inspect", "map"]
    assert completions("tensorport", "map", "") == ["list", "show", "check", "explain"]
    assert completions("tensorport", "map", "-") == ["--help", "-h"]
    assert completions("tensorport", "convert", "map", "--j") == ["--json"]
    assert completions("tensorport", "c") == ["convert"]
    assert completions("tensorport", "convert", "--precision", "") == ["auto", "float16", "float32", "bfloat16", "keep"]
    assert completions("tensorport", "convert", "--tree", "=", "n") == ["nested"]
    assert completions("tensorport", "convert", "--input", "") == []


@pytest.mark.skipif(not shutil.which("man"), reason="no man")
def test_man_page_has_no_faults(tmp_path: Path) -> None:
    page = tmp_path / "tensorport.1"
    page.write_text(run("--man").stdout)
    done = subprocess.run(["man", "--warnings", "-l", "-P", "cat", page], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.8", "1.80 GB"),
        ("1800MB", "1.80 GB"),
        ("1.7GiB", "1.83 GB"),
        ("5 GB", "5.00 GB"),
        ("2tb", "2.00 TB"),
        ("0.5kib", None),
        ("1KB", "1.00 KB"),
        ("999B", None),
        ("1,8", None),
        ("1.8G", None),
        ("-1", None),
        ("", None),
        ("1e9", None),
        (".5", None),
        ("1.", None),
        ("99999999999999999999", None),
        ("18446744073709551615TiB", None),
    ],
)
def test_shard_sizes_are_understood_or_refused(text: str, size: str | None, tmp_path: Path) -> None:
    done = run("convert", "-i", tmp_path / "absent", "-o", tmp_path / "out", f"--shard-size={text}")
    if size is None:
        assert done.returncode == 2
        assert done.stderr.startswith("tensorport: --shard-size ")
        assert done.stderr.count("\n") == 1
    else:
        assert done.returncode == 3, done.stderr  # the size was fine: it is the input that is missing


@pytest.mark.parametrize("command", ["convert", "verify"])
def test_only_a_whole_number_of_workers_is_taken(command: str) -> None:
    for text in ("0", "-1", "1.5", "many", "5000", "99999999999999999999"):
        done = run(command, "--workers", text)
        assert done.returncode == 2
        assert "is not a whole number from 1 to 4096" in done.stderr

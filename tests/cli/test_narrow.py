# SPDX-License-Identifier: MIT
"""Tables on a terminal that is too narrow for them: lines go on below, indented, and are parted between their cells."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import checkpoints
import pytest
from command import command_path, run

DRY_RUN = ("convert", "-o", "out", "--dry-run", "--dequantize", "--exclude=*.[01].*", "-i", "experts")
COMMANDS = {
    "dry-run": DRY_RUN,
    "inspect": ("inspect", "experts"),
    "all": ("inspect", "experts", "--all"),
    "tensor": ("inspect", "experts", "-t", "model.layers.1.mlp.experts.down_proj_scales"),
    "logical": ("inspect", "experts", "-t", "model.layers.1.mlp.experts.down_proj"),
    "refused": ("inspect", "fp8"),
    "method": ("inspect", "marlin"),
    "map check": ("map", "check", "decoder/map.json", "-i", "decoder"),
    "map explain": ("map", "explain", "blocks/out/kernel", "--map", "decoder/map.json", "-i", "decoder"),
    "map list": ("map", "list", "flax-linen"),
    "wide characters": ("inspect", "hostile", "--all"),
}


def on_terminal(columns: int, folder: Path, *arguments: str) -> list[str]:
    """The lines that the command prints on a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "dumb", "LC_ALL": "C"}
    command = [str(command_path()), *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=follower)
    os.close(follower)
    text = b""
    try:
        while data := os.read(leader, 65536):
            text += data
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(leader)
    assert process.wait() == 0
    return text.decode().replace("\r\n", "\n").splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("experts", "decoder", "fp8", "marlin", "hostile"):
        checkpoints.MAKERS[name](tmp_path / name)
    return tmp_path


def test_a_plan_on_40_columns(folder: Path) -> None:
    lines = on_terminal(40, folder, *DRY_RUN)
    assert lines[:3] == ["array", "    dtype                 shape", "    size  file"]
    at = lines.index("model.layers.2.mlp.experts.down_proj")
    assert lines[at + 1 : at + 3] == ["    mxfp4 -> float16      [4, 32, 32]", "    8.19 KB  model.msgpack"]
    assert lines[at + 7].startswith("file ")
    at = lines.index("        1 quantised weight decoded,")
    assert lines[at + 1] == "            4,096 parameters"


def test_inspect_on_40_columns(folder: Path) -> None:
    lines = on_terminal(40, folder, "inspect", "experts")
    at = lines.index("  decodes to")
    assert lines[at + 1 : at + 6] == [
        "      scheme  shape        weights",
        "      parameters",
        "  model.layers.*.mlp.experts.down_proj",
        "      mxfp4   [4, 32, 32]        3",
        "      12,288",
    ]


@pytest.mark.parametrize("columns", [20, 40, 60, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_lost_and_only_long_words_are_too_long(command: str, columns: int, folder: Path) -> None:
    arguments = COMMANDS[command]
    lines = on_terminal(columns, folder, *arguments)
    whole = run(*arguments, cwd=folder).stdout
    # Sizes of the disk may change from run to run.
    assert [w for w in " ".join(lines).split() if w[0].isalpha()] == [w for w in whole.split() if w[0].isalpha()]
    for line in lines:
        assert len(line) <= columns or " " not in line.strip(), line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wide_terminal_changes_nothing(command: str, folder: Path) -> None:
    lines = on_terminal(400, folder, *COMMANDS[command])
    whole = run(*COMMANDS[command], cwd=folder).stdout.splitlines()
    assert [line for line in lines if "disk" not in line] == [line for line in whole if "disk" not in line]

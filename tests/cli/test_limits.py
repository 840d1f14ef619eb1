# SPDX-License-Identifier: MIT
"""The limits that the manual states are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from command import ROOT, run
from safetensors.numpy import save_file

HEADER = (ROOT / "include" / "tensorport" / "checkpoint.h").read_text()
MACROS = {"TP_HEADER_MAX_BYTES": "header", "TP_FILES_MAX": "files", "TP_NAME_MAX_BYTES": "name", "TP_RANK_MAX": "axes"}


def limits() -> str:
    return run("--man").stdout.replace("\\-", "-").split(".SH LIMITS")[1].split(".SH ")[0]


@pytest.mark.parametrize("macro", MACROS)
def test_what_the_header_defines_is_in_the_manual(macro: str) -> None:
    value = re.search(rf"#define {macro} (\d+)u", HEADER)
    assert value
    row = next(text for text in limits().split(".TP\n") if MACROS[macro] in text.split("\n")[0])
    assert f"\n{int(value[1]):,} " in row


def test_the_least_memory_is_what_a_refusal_says(tmp_path: Path) -> None:
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    done = run("convert", "-i", tmp_path, "-o", tmp_path / "out", "--max-memory", "1MB")
    assert done.returncode == 5
    least = re.search(r"allow (\d+) MiB or more", done.stderr)
    assert least
    assert f"The least for one worker is {least[1]} MiB" in limits()


def test_what_the_least_memory_converts_it_verifies(tmp_path: Path) -> None:
    """Reading back gathers nothing, so it needs no memory for that."""
    (tmp_path / "in").mkdir()
    save_file({"w": np.arange(481 * 389).reshape(481, 389)}, tmp_path / "in" / "model.safetensors")
    least = re.search(r"The least for one worker is (\d+) MiB", limits())
    assert least
    memory = f"{least[1]}MiB"
    done = run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out", "--max-memory", memory)
    assert done.returncode == 0, done.stderr
    done = run("verify", "--model", tmp_path / "out", "--max-memory", memory)
    assert done.returncode == 0, done.stderr

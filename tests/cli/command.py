# SPDX-License-Identifier: MIT
"""Where the programs under test are. TENSORPORT_BIN is the command (default: build/tensorport of this checkout)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command_path() -> Path:
    """The command; the test fails if it is nowhere."""
    path = Path(os.environ.get("TENSORPORT_BIN") or ROOT / "build" / "tensorport")
    if not path.exists():
        pytest.fail(f"no command at {path}: build it, or set TENSORPORT_BIN")
    return path.resolve()


def built(name: str) -> Path:
    """A program that Meson built with -Dtests=true, by its place in the build folder."""
    path = command_path().parents[1] / name
    if not path.exists():
        pytest.fail(f"no {path}: build with -Dtests=true")
    return path


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a plain environment; nothing is checked."""
    environment = {key: value for key, value in os.environ.items() if key not in ("TENSORPORT_CPU", "NO_COLOR")}
    defaults: dict[str, Any] = {"capture_output": True, "env": environment | {"TERM": "dumb", "LC_ALL": "C"}}
    command = [str(command_path()), *map(str, arguments)]
    return subprocess.run(command, encoding="utf-8", timeout=120, check=False, **(defaults | options))

# SPDX-License-Identifier: MIT
"""Running a project's own code in its own environment (tools/map_env.sh)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from presets import ROOT

HERE = Path(__file__).parent


def python_of(name: str) -> Path:
    """The Python of build/maps-NAME, or a skip that says why there is none."""
    folder = Path(os.environ.get("TENSORPORT_MAP_ENVS") or ROOT / "build") / f"maps-{name}"
    why = folder / "missing"
    if why.exists() or not (folder / "bin" / "python").exists():
        pytest.skip(f"no {name}: {why.read_text().strip() if why.exists() else 'tools/map_env.sh not run'}")
    return folder / "bin" / "python"


def run_jobs(name: str, folder: Path, jobs: list[dict[str, Any]]) -> None:
    """Do them all in one process of that environment, by in_NAME.py."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    command = [str(python_of(name)), str(HERE / f"in_{name}.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert "ALL DONE" in done.stdout, done.stderr[-4000:]

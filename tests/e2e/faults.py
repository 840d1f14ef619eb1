# SPDX-License-Identifier: MIT
"""Running the command with a fault to order: tests/faults/faults.c, which says what can be ordered."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import command_path


def library() -> Path:
    """The fault library of the build that the command is of."""
    path = command_path().parent.parent / "tests" / "faults" / "faults.so"
    if not path.exists():
        pytest.skip(f"no fault library at {path} (Linux, built with -Dtests=true)")
    return path


@dataclass(frozen=True)
class Outcome:
    """How a run with an order ended."""

    order: str
    code: int  # below 0: ended by that signal
    stdout: str
    stderr: str
    where: str | None  # of the fault, or None: it did not come so far
    calls: int  # of the kind ordered, as far as the process counted; 0 when it was killed

    def complaints(self) -> list[str]:
        """The errors it printed, each with its first line only."""
        said = [line for line in self.stderr.splitlines() if line.startswith("tensorport: ")]
        return [line for line in said if not line.startswith(("tensorport: warning", "tensorport: note", KEPT))]

    def __str__(self) -> str:
        return f"{self.order} at {self.where}: exit code {self.code}\n{self.stderr}"


KEPT = "tensorport: what is finished is kept in "


def command(order: str, report: Path, only: str, arguments: tuple[object, ...]) -> list[str]:
    """The command with a fault. `env` sets the variables, so that it is not counted itself, and lets SIGINT through, to
    which is deaf what is started in the background. A sanitizer's library is not the first one then.
    """
    sanitizer = f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0:allocator_may_return_null=1".lstrip(":")
    variables = {"TENSORPORT_FAULT": order, "TENSORPORT_FAULT_REPORT": str(report), "ASAN_OPTIONS": sanitizer}
    variables |= {"TENSORPORT_FAULT_PATH": only} if only else {}
    variables |= {"LD_PRELOAD": str(library())}
    settings = [f"{name}={value}" for name, value in variables.items()]
    return ["env", "--default-signal=INT", *settings, str(command_path()), *map(str, arguments)]


def outcome(order: str, code: int, stdout: str, stderr: str, report: Path) -> Outcome:
    """What the process said, and what the library said of it."""
    lines = report.read_text(errors="replace").splitlines() if report.exists() else []
    where = next((line[len("fault ") :] for line in lines if line.startswith("fault ")), None)
    calls = next((int(line.split()[1]) for line in lines if line.startswith("calls ")), 0)
    return Outcome(order, code, stdout, stderr, where, calls)


def run_with(order: str, *arguments: object, only: str = "", timeout: float = 120) -> Outcome:
    """Run the command to its end; one that hangs fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        done = subprocess.run(
            command(order, report, only, arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
        return outcome(order, done.returncode, done.stdout, done.stderr, report)


def run_stopped_at(order: str, meanwhile: Callable[[], object], *arguments: object, only: str = "") -> Outcome:
    """Run the command until an order such as "read:3:stop" halts it, do something, let it go on to its end."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        process = subprocess.Popen(
            command(order, report, only, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        try:
            ended = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if ended and ended.si_code == os.CLD_STOPPED:
                meanwhile()
                process.send_signal(signal.SIGCONT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
        return outcome(order, process.returncode, stdout, stderr, report)

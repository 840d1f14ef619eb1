# SPDX-License-Identifier: MIT
"""The bar, in a real terminal emulator: it never wraps, and it leaves nothing behind, also while the window changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoints
import pytest
from command import built, command_path

BAR = re.compile(r"^(verifying  )?\[=*>? *\] +\d+ % ")
ERASE = "\x1b7\x1b[K\x1b8"
COLUMNS = (20, 40, 59, 60, 61, 79, 80, 81, 100, 120, 160, 200, 250)


def columns_of(text: str) -> int:
    """Columns that a terminal needs."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Terminal:
    """A tmux server of its own, with one window."""

    def __init__(self, width: int, height: int = 12) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tensorport-")  # a socket's path must be short
        self.socket = f"{self.folder.name}/tmux"
        self.environment = {k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR", "COLUMNS")}
        shell = ["env", "PS1=$ ", "LC_ALL=C.UTF-8", "sh"]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), *shell)
        self.tmux("set-option", "-g", "window-size", "manual")
        self.wait_for(lambda lines: lines[-1:] == ["$"])

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self.socket, *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def resize(self, width: int) -> None:
        self.tmux("resize-window", "-x", str(width))

    def type(self, line: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def lines(self) -> list[str]:
        """What is on the screen and in its history, without empty lines at the end."""
        return self.tmux("capture-pane", "-p", "-S", "-").rstrip("\n").split("\n")

    def wait_for(self, condition: Callable[[list[str]], object], seconds: float = 20) -> list[str]:
        """The screen, once it is as it should be."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = self.lines()
            if condition(lines):
                return lines
            time.sleep(0.05)
        raise AssertionError("the screen never looked as it should:\n" + "\n".join(self.lines()))

    def close(self) -> None:
        self.tmux("kill-server")
        self.folder.cleanup()


@pytest.fixture
def terminal() -> Iterator[Callable[[int], Terminal]]:
    """Makes terminals, and ends them."""
    if not shutil.which("tmux"):
        pytest.fail("the bar is tested in tmux: install it (apt install tmux)")
    made: list[Terminal] = []

    def make(width: int) -> Terminal:
        made.append(Terminal(width))
        return made[-1]

    yield make
    for one in made:
        one.close()


MakeTerminal = Callable[[int], Terminal]


def bars(lines: list[str]) -> list[str]:
    return [line for line in lines if BAR.match(line)]


@pytest.mark.parametrize("width", COLUMNS)
def test_no_frame_is_wider_than_the_window(width: int) -> None:
    frames = subprocess.run([built("cli/bar_demo"), "frames", str(width)], capture_output=True, check=True).stdout
    for frame in frames.decode().splitlines():
        text = frame[1:-1]
        assert columns_of(text) < width, frame
        assert text == text.rstrip()
        assert "%" in text
        if width >= 60:
            assert " of " in text
            assert "[" in text or width < 64 or "counting" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_fits_moves_and_gives_way(width: int, terminal: MakeTerminal) -> None:
    window = terminal(width)
    window.type(f"{built('cli/bar_demo')} run 1.5")
    seen = []
    end = time.monotonic() + 3.5
    while time.monotonic() < end and "finished" not in (lines := window.lines()):
        found = bars(lines)
        assert len(found) <= 1, lines
        seen += found
        time.sleep(0.1)
    assert len(set(seen)) > 5
    assert all(len(bar) < width for bar in seen)
    assert any("GB/s" in bar and " left" in bar for bar in seen)
    assert any(bar.startswith("verifying") for bar in seen)
    if width >= 80:
        assert any("-of-00024" in bar for bar in seen)
    lines = window.wait_for(lambda lines: lines[-2:] == ["finished", "$"])
    assert bars(lines) == []


def resize_while_running(window: Terminal) -> str:
    """What was left or lost, in words; "" when nothing was."""
    window.type("seq 20; echo above")  # fills the window: near its top, tmux itself moves half a folded line away
    window.type(f"{built('cli/bar_demo')} run 2")
    window.wait_for(bars)
    for width in (60, 200, 61, 90, 59, 30, 140, 80):
        window.resize(width)
        time.sleep(0.3)
        lines = window.lines()
        if len([line for line in lines if "%" in line]) > 1:
            return f"at width {width}: {lines}"
    lines = window.wait_for(lambda lines: lines[-2:] == ["finished", "$"])
    return "" if "%" not in "".join(lines) and "above" in lines else f"at the end: {lines}"


def test_resizing_leaves_no_garbage(terminal: MakeTerminal) -> None:
    """A resize that falls between the bar's look at the width and its drawing goes wrong in any program, and on a busy
    machine now and then does: one of three runs must be clean, where a fault of the bar spoils all of them."""
    faults = []
    for _ in range(3):
        faults.append(resize_while_running(terminal(120)))
        if not faults[-1]:
            return
    raise AssertionError("\n".join(faults))


def test_ctrl_c_clears_the_bar_and_says_where_it_stopped(terminal: MakeTerminal) -> None:
    window = terminal(80)
    window.type(f"{built('cli/bar_demo')} run 20; echo code $?")
    window.wait_for(bars)
    window.tmux("send-keys", "C-c")
    lines = window.wait_for(lambda lines: "code 130" in lines)
    assert bars(lines) == []
    assert re.fullmatch(r"stopped at \d+ % \([0-9.]+ of 41.8 GB\)", lines[-3])


def test_a_job_in_the_background_draws_nothing(terminal: MakeTerminal) -> None:
    window = terminal(80)
    window.type("set -m")
    window.type(f"{built('cli/bar_demo')} run 1 & echo started")
    window.wait_for(lambda lines: any(line.endswith(" started") or line == "started" for line in lines[1:]))
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert bars(window.lines()) == []
        time.sleep(0.1)
    window.type("wait")
    window.wait_for(lambda lines: any("finished" in line for line in lines))


def test_a_conversion_ends_with_its_summary_alone(tmp_path: Path, terminal: MakeTerminal) -> None:
    checkpoints.sparse(tmp_path / "sparse")
    window = terminal(160)
    window.type(f"cd {tmp_path} && clear")
    window.wait_for(lambda lines: lines == ["$"])
    window.type(f"{command_path()} convert -i sparse -o out --workers 1 --cpu scalar && echo code $?")
    lines = window.wait_for(lambda lines: "code 0" in lines, 60)
    start = next(i for i, line in enumerate(lines) if line.startswith("sparse: 64 tensors"))
    assert [line.split()[0] for line in lines[start:]] == (
        ["sparse:", "to", "converted", "dtypes", "cast", "--precision", "verified", "out/manifest.json", "code", "$"]
    )


@pytest.mark.long
def test_without_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    command = [str(built("cli/bar_demo")), "run", "11"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"tensorport:  9\d %  3\d\.\d of 41\.8 GB  3\.\d+ GB/s  [01] s left +model-0002\d-of-00024", lines[0]
    )
    assert re.fullmatch(r"tensorport: verifying +\d+ % .*", lines[1])


def test_no_bar_without_a_terminal_and_always_draws_one() -> None:
    def stderr(mode: str, **variables: str) -> str:
        command = [str(built("cli/bar_demo")), mode, "0.6"]
        done = subprocess.run(command, capture_output=True, check=True, env=os.environ | variables)
        assert done.stdout == b"finished\n"
        return done.stderr.decode()

    assert stderr("run") == ""
    drawn = stderr("always", COLUMNS="70").split("\r")
    assert len(drawn) > 4
    assert all(len(re.sub("\x1b(\\[[?0-9]*[A-Za-z]|[78])", "", line)) < 70 for line in drawn)
    assert drawn[-1] == ERASE
    assert stderr("json").count("\n") >= 4

# SPDX-License-Identifier: MIT
"""What happens at the edges of the process: full disks, closed pipes and descriptors, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import checkpoints
import pytest
from command import command_path, run


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    checkpoints.tiny(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["inspect", "{}"], ["inspect", "{}", "--json"]])
def test_a_full_disk_behind_stdout_is_an_error(arguments: list[str], tiny: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(
            *(word.format(tiny) for word in arguments), stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert done.returncode == 4
    assert done.stderr == "tensorport: standard output: No space left on device\n"


def test_a_closed_stdout_is_an_error_and_harms_no_file(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = '"$0" convert -i "$1" -o "$2" --quiet >&- 2>&-; "$0" verify "$2" >&-'
    command = ["sh", "-c", script, str(command_path()), str(tiny), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr == "tensorport: standard output: Bad file descriptor\n"
    assert run("verify", out, "--source", tiny).returncode == 0


def test_a_reader_that_goes_away_ends_inspect_quietly(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "m.safetensors", [(f"t{i}", "F32", [1], None) for i in range(20000)])
    script = '"$0" inspect "$1" --all | head -n 1'
    command = ["sh", "-c", script, str(command_path()), str(tmp_path / "m.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_a_reader_that_goes_away_does_not_stop_a_conversion(tiny: Path, tmp_path: Path) -> None:
    script = '"$0" convert -i "$1" -o "$2" 2>&1 | true; "$0" verify "$2" --source "$1"'
    command = ["sh", "-c", script, str(command_path()), str(tiny), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def heed_signals() -> None:
    """A runner in the background passes SIGINT and SIGHUP on as ignored, and the command keeps to that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(source: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    """A conversion that is at work: it has reported progress once."""
    slow = ["--workers", "1", "--cpu", "scalar", "--progress", "json", "--quiet"]
    command = [str(command_path()), "convert", "-i", str(source), "-o", str(out), *slow, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", preexec_fn=heed_signals
    )
    assert process.stderr
    report = json.loads(process.stderr.readline())
    assert report["phase"] == "convert"
    assert report["total_bytes"] > report["done_bytes"]
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_in_order_and_leaves_what_is_finished(number: signal.Signals, code: int, tmp_path: Path) -> None:
    checkpoints.sparse(tmp_path / "sparse")
    process = start(tmp_path / "sparse", tmp_path / "out")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout == ""
    words = [line for line in stderr.splitlines() if not line.startswith("{")]
    assert words[0].startswith("tensorport: stopped ")
    assert words[0].endswith(f"; nothing was written under the name {tmp_path / 'out'}")
    left = {"out.tensorport-partial"} & set(os.listdir(tmp_path))
    assert set(os.listdir(tmp_path)) == {"sparse"} | left
    partial = tmp_path / "out.tensorport-partial"
    said = f"tensorport: what is finished is kept in {partial}; the same command with --resume goes on"
    assert words[1:] == ([said] if left else [])
    done = run("convert", "-i", tmp_path / "sparse", "-o", tmp_path / "out", "--resume", "--quiet")
    assert done.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["out", "sparse"]


def test_the_same_signal_twice_at_once_is_one_wish(tmp_path: Path) -> None:
    """timeout(1) sends it to the process and to its group."""
    checkpoints.sparse(tmp_path / "sparse")
    process = start(tmp_path / "sparse", tmp_path / "out")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (tmp_path / "out").exists()


def test_an_ignored_signal_stays_ignored(tmp_path: Path, tiny: Path) -> None:
    script = 'trap \'\' INT; "$0" convert -i "$1" -o "$2" --quiet & kill -INT $!; wait $!'
    command = ["sh", "-c", script, str(command_path()), str(tiny), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == 0


def test_progress_as_json_is_one_object_a_line(tiny: Path, tmp_path: Path) -> None:
    done = run("convert", "-i", tiny, "-o", tmp_path / "out", "--progress", "json", "--json", "--quiet")
    assert done.returncode == 0
    reports = [json.loads(line) for line in done.stderr.splitlines()]
    assert {report["phase"] for report in reports} == {"convert", "verify"}
    last = reports[-1]
    assert last["done_bytes"] == last["total_bytes"]
    summary = json.loads(done.stdout)
    assert summary["arrays"] == 3
    assert summary["verified"] is True
    assert 0 < summary["peak_rss_bytes"] < 1 << 30

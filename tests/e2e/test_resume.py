# SPDX-License-Identifier: MIT
"""Killed at any moment, a conversion is resumed to the same bytes, or refused where it is not the same conversion.

TENSORPORT_KILLS is the number of moments of each kind (20; the long tier takes 200).
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from conftest import command_path, run

KILLS = int(os.environ.get("TENSORPORT_KILLS", "20"))
LAYERS = Path(__file__).parents[1] / "data" / "maps" / "layers.json"
FORMATS = {
    "msgpack": ["--shard-size", "40MB"],
    "safetensors": ["--format", "safetensors", "--shard-size", "40MB", "--precision", "float16"],
    "orbax": ["--format", "orbax", "--step", "3", "--precision", "bfloat16"],
    "spread": ["--map", str(LAYERS), "--precision", "keep", "--max-memory", "24MiB"],  # transposed in little memory
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 MB in several files: matrices of several blocks, and many small tensors."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(5)
    tensors = {f"layer.{i}.w": rng.standard_normal((1024, 4096), dtype=np.float32) for i in range(4)}
    tensors["embed"] = rng.standard_normal((4400, 4096), dtype=np.float32)
    tensors |= {f"norm.{i}": rng.standard_normal(100, dtype=np.float32) for i in range(1000)}
    names = sorted(tensors)
    for part, chosen in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        save_file({name: tensors[name] for name in chosen}, folder / f"part-{part}.safetensors")
    (folder / "config.json").write_text('{"model_type": "none"}')
    return folder


def sums(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha1(p.read_bytes()).hexdigest() for p in files}


def start(source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    words = ["convert", "-i", str(source), "-o", str(out), "--quiet", *options]
    command = ["env", "--default-signal=INT", str(command_path()), *words]  # what runs in the background ignores it
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def duration(source: Path, out: Path, options: list[str]) -> float:
    begin = time.monotonic()
    run("convert", "-i", source, "-o", out, "--quiet", *options)
    return time.monotonic() - begin


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", FORMATS)
def test_stopped_at_any_moment_it_is_resumed_to_the_same_bytes(
    tmp_path: Path, source: Path, name: str, kind: signal.Signals
) -> None:
    options = FORMATS[name]
    whole = duration(source, tmp_path / "whole", options)
    expected = sums(tmp_path / "whole")
    chance = random.Random(f"{name} {kind}")
    stopped = turn = 0
    while turn < KILLS // len(FORMATS) or (stopped == 0 and turn < 200):
        turn += 1
        out = tmp_path / "out"
        for _ in range(50):
            process = start(source, out, "--resume", *options)
            time.sleep(chance.uniform(0, whole))
            process.send_signal(kind)
            stderr = process.communicate(timeout=60)[1]
            assert process.returncode in (0, -kind, 128 + kind), stderr
            stopped += process.returncode != 0
            if (out / "3" / "manifest.json" if name == "orbax" else out / "manifest.json").exists():
                break  # stopped or not, all of it is there
        else:
            run("convert", "-i", source, "-o", out, "--quiet", "--resume", *options)
        assert sums(out) == expected, f"turn {turn}"
        assert not list(tmp_path.rglob("*partial*"))
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        out.rmdir()
    print(f"{name}, {kind.name}: {turn} conversions, stopped {stopped} times")
    assert stopped > 0


def stop_halfway(source: Path, out: Path, *options: str) -> Path:
    """Killed when the journal has something."""
    partial = Path(f"{out}.tensorport-partial")
    for _ in range(100):
        process = start(source, out, *options)
        journal = partial / ".resume" / "journal"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > 24 + 88):
            time.sleep(0.001)
        process.kill()
        process.communicate()
        if partial.exists() and (partial / ".resume" / "journal").stat().st_size > 24 + 88:
            return partial
        for folder in (out, partial):
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    pytest.fail("it was always faster")


def test_what_the_journal_claims_is_checked(tmp_path: Path, source: Path) -> None:
    run("convert", "-i", source, "-o", tmp_path / "whole", "--quiet")
    out = tmp_path / "out"
    partial = stop_halfway(source, out)
    journal = partial / ".resume" / "journal"
    data = partial / "model.msgpack"
    with data.open("r+b") as file:  # a block that was written and is not what it was
        for offset in range(0, data.stat().st_size, 1 << 20):
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))
    bytes_ = bytearray(journal.read_bytes())
    bytes_[24 + 20] ^= 1  # a record that was damaged
    journal.write_bytes(bytes(bytes_) + b"torn")
    run("convert", "-i", source, "-o", out, "--quiet", "--resume")
    assert sums(out) == sums(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--precision", "bfloat16"], "bfloat16"), (["--shard-size", "77MB"], "shard_size"), (["--compat"], "compat")],
)
def test_another_conversion_is_refused_with_what_differs(
    tmp_path: Path, source: Path, options: list[str], word: str
) -> None:
    partial = stop_halfway(source, tmp_path / "out")
    before = sums(partial)
    done = run("convert", "-i", source, "-o", tmp_path / "out", "--resume", *options, code=2)
    assert word in done.stderr
    after = sums(partial)
    before.pop("UNFINISHED.txt"), after.pop("UNFINISHED.txt")
    assert after == before


def test_a_changed_source_is_refused(tmp_path: Path, source: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
    stop_halfway(copy, tmp_path / "out")
    os.utime(copy / "part-0.safetensors")
    done = run("convert", "-i", copy, "-o", tmp_path / "out", "--resume", code=2)
    assert "part-0.safetensors" in done.stderr
    run("convert", "-i", copy, "-o", tmp_path / "out", "--overwrite", "--quiet")
    run("verify", "--model", tmp_path / "out", "--source", copy)


def test_workers_and_memory_may_change(tmp_path: Path, source: Path) -> None:
    run("convert", "-i", source, "-o", tmp_path / "whole", "--quiet")
    stop_halfway(source, tmp_path / "out", "--workers", "3")
    run("convert", "-i", source, "-o", tmp_path / "out", "--resume", "--workers", "1", "--max-memory", "20MB", "-q")
    assert sums(tmp_path / "out") == sums(tmp_path / "whole")


def test_an_overflow_is_gone_on_from_with_saturate(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tensors = {f"w{i}": np.full((4096, 4096), i + 1, np.float32) for i in range(3)}
    tensors["large"] = np.full(100, 1e6, np.float32)
    save_file(tensors, folder / "model.safetensors")
    run("convert", "-i", folder, "-o", tmp_path / "whole", "--on-overflow", "saturate", "--quiet")
    done = run("convert", "-i", folder, "-o", tmp_path / "out", "--workers", "1", code=3)
    assert "large" in done.stderr
    run("convert", "-i", folder, "-o", tmp_path / "out", "--resume", "--on-overflow", "saturate", "--quiet")
    assert sums(tmp_path / "out") == sums(tmp_path / "whole")


def killed_when(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    while process.poll() is None and not happened():
        time.sleep(0.0005)
    process.kill()
    process.communicate()


def test_what_overflowed_is_made_again_however_often_it_is_gone_on_from(tmp_path: Path) -> None:
    """Begun with inf, gone on from with saturate but killed at once, gone on from again: no inf is left."""
    folder = tmp_path / "in"
    folder.mkdir()
    rows = np.linspace(-1, 1, 1 << 20, dtype=np.float32).reshape(1024, 1024)
    rows[0, 0] = 1e6
    save_file({f"w{i}": rows for i in range(16)}, folder / "model.safetensors")
    run("convert", "-i", folder, "-o", tmp_path / "whole", "--on-overflow", "saturate", "--quiet")
    out, state = tmp_path / "out", tmp_path / "out.tensorport-partial" / ".resume"
    journal, identity = state / "journal", state / "conversion.txt"
    for _ in range(100):
        process = start(folder, out, "--workers", "1", "--on-overflow", "inf")
        killed_when(process, lambda: journal.exists() and journal.stat().st_size > 24 + 6 * 88)
        process = start(folder, out, "--workers", "1", "--on-overflow", "saturate", "--resume")
        killed_when(process, lambda: identity.exists() and "saturate" in identity.read_text())
        if not out.exists():
            break
        subprocess.run(["rm", "-rf", str(out)], check=True)
    else:
        pytest.fail("it was always faster")
    run("convert", "-i", folder, "-o", out, "--resume", "--on-overflow", "saturate", "--quiet")
    assert sums(out) == sums(tmp_path / "whole")


def test_two_runs_on_one_output(tmp_path: Path, source: Path) -> None:
    first = start(source, tmp_path / "out", "--workers", "1")
    partial = tmp_path / "out.tensorport-partial" / "UNFINISHED.txt"
    while first.poll() is None and not (partial.exists() and "process" in partial.read_text()):
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)
    try:
        for option in ([], ["--overwrite"], ["--resume"]):
            done = run("convert", "-i", source, "-o", tmp_path / "out", *option, code=2)
            assert f"process {first.pid}" in done.stderr
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.communicate()[1] == ""
    assert first.returncode == 0
    run("verify", "--model", tmp_path / "out", "--source", source)


def test_without_resume_nothing_is_built_upon_or_deleted(tmp_path: Path, source: Path) -> None:
    partial = stop_halfway(source, tmp_path / "out")
    before = sums(partial)
    done = run("convert", "-i", source, "-o", tmp_path / "out", code=2)
    assert "--resume" in done.stderr
    assert sums(partial) == before

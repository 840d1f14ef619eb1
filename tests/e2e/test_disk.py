# SPDX-License-Identifier: MIT
"""Disks that fill up, cannot be written or go away, and inputs that change while they are read.

A small disk is a tmpfs in a mount namespace of its own, which needs user namespaces (or root). What happens in the
middle of a conversion happens while it stands still at a call that tests/faults/faults.c knows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults import Outcome, library, run_stopped_at, run_with

from conftest import command_path, run, tree_bytes, write_checkpoint

SUMS = 'cd "$DISK/out" && find . -type f | LC_ALL=C sort | xargs sha256sum'
# Shell functions of the scripts below: convert until it stands still, with $ORDER; then let it end.
PAUSE = r"""
begin() {
    LD_PRELOAD=$FAULTS TENSORPORT_FAULT=$ORDER TENSORPORT_FAULT_PATH=${ONLY-} \
        "$BIN" convert -i "$IN" -o "$DISK/out" -q "$@" & pid=$!
    trap 'kill -9 $pid' EXIT
    until grep -q 'State:.T' /proc/$pid/status; do sleep 0.01; done
}
end() { kill -CONT $pid; code=0; wait $pid || code=$?; trap - EXIT; echo "exit code $code"; }
fill() { dd if=/dev/zero of="$DISK/other" bs=4k 2>/dev/null || true; }
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """3 MB in two files."""
    rng = np.random.default_rng(3)
    tensors = {f"w{i}": rng.standard_normal((256, 512), dtype=np.float32) for i in range(6)}
    return write_checkpoint(tmp_path / "in", tensors, files=2)


@pytest.fixture(scope="module")
def can_mount() -> None:
    done = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no disk of our own can be mounted: {done.stderr.strip()}")


def on_small_disk(tmp_path: Path, source: Path, size: str, script: str, **variables: str) -> tuple[str, str]:
    """Run a shell script with an empty disk of that size at $DISK; what it says on stdout and stderr."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = {"DISK": str(disk), "IN": str(source), "BIN": str(command_path()), "FAULTS": str(library())}
    words["ASAN_OPTIONS"] = f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".lstrip(":")
    text = f'mount -t tmpfs -o size={size} tmpfs "$DISK"\n{PAUSE}{script}'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-euc", text],
        env=os.environ | words | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def sums_of(folder: Path) -> str:
    """What SUMS prints of a finished output."""
    env = os.environ | {"DISK": str(folder.parent)}
    return subprocess.run(["sh", "-euc", SUMS], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("can_mount")
def test_more_than_fits_is_refused_before_a_byte_is_written(tmp_path: Path, source: Path) -> None:
    script = '"$BIN" convert -i "$IN" -o "$DISK/out" && exit 9 || echo "exit code $?"; ls -A "$DISK"'
    stdout, stderr = on_small_disk(tmp_path, source, "1m", script)
    assert stdout == "exit code 5\n"
    assert f"{tmp_path}/disk/out: the output needs" in stderr


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize(
    ("order", "only"), [("allocate:2:stop", ""), ("write:3:stop", "/journal"), ("write:1:stop", "manifest.json")]
)
@pytest.mark.parametrize("options", [["--shard-size", "1MB"], ["--format", "orbax"], ["--format", "safetensors"]])
def test_a_disk_that_another_fills_is_an_error_and_can_be_gone_on_from(
    tmp_path: Path, source: Path, order: str, only: str, options: list[str]
) -> None:
    if options[0] == "--format" and order != "write:1:stop":
        order = order.replace("2", "1").replace("3", "2")  # one file of data
    run("convert", "-i", source, "-o", tmp_path / "whole" / "out", "-q", *options)
    words = " ".join(options)
    script = f"""
begin --workers 1 {words}; fill; end
rm "$DISK/other"
"$BIN" convert -i "$IN" -o "$DISK/out" -q --resume {words}
test ! -e "$DISK/out.tensorport-partial"
{SUMS}
"""
    stdout, stderr = on_small_disk(tmp_path, source, "8m", script, ORDER=order, ONLY=only)
    said, sums = stdout.split("\n", 1)
    assert said == "exit code 5", stderr
    assert stderr.count("No space left on device") == 1, stderr
    if only == "manifest.json":  # all data is written by then
        assert "--resume goes on" in stderr
    assert sums == sums_of(tmp_path / "whole" / "out")


@pytest.mark.usefixtures("can_mount")
def test_a_read_only_disk_is_one_clear_error(tmp_path: Path, source: Path) -> None:
    script = """
mkdir "$DISK/empty"; mount -o remount,ro "$DISK"
for out in "$DISK/out" "$DISK/empty"; do
    "$BIN" convert -i "$IN" -o "$out" -q && exit 9 || echo "exit code $?"
done; ls -A "$DISK"
"""
    stdout, stderr = on_small_disk(tmp_path, source, "8m", script)
    assert stdout == "exit code 4\nexit code 4\nempty\n"
    assert stderr.count("Read-only file system") == 2, stderr
    assert stderr.count("tensorport: ") == 2, stderr


# What goes away


@pytest.mark.parametrize("n", [8, 14, 20, 30])
def test_a_folder_that_vanishes_is_an_error(tmp_path: Path, source: Path, n: int) -> None:
    partial = tmp_path / "out.tensorport-partial"
    done = run_stopped_at(
        f"change:{n}:stop",
        lambda: shutil.rmtree(partial),
        *("convert", "-i", source, "-o", tmp_path / "out", "-q", "--workers", "1", "--shard-size", "1MB"),
        only=partial.name,
    )
    assert done.code == 4, done
    assert len(done.complaints()) == 1, done
    assert "out.tensorport-partial" in done.stderr
    assert not (tmp_path / "out").exists()


# Inputs that change

OTHER = bytes(byte ^ 1 for byte in range(256))


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0" * 1000)


def rewrite(path: Path) -> None:
    """Other values, the same size: only the time tells."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[len(data) // 2 :].translate(OTHER))


def replace(path: Path) -> None:
    """Another file under the name, with the time of the first."""
    before = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes().translate(OTHER))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def remove(path: Path) -> None:
    path.unlink()


CHANGES: list[Callable[[Path], None]] = [shrink, grow, rewrite, replace, remove]


def check_changed(done: Outcome, out: Path, whole: dict[str, bytes], file: Path) -> None:
    """Either one error that names the file, and no output; or what the file held before it changed."""
    if done.code == 0:
        assert tree_bytes(out) == whole, done
        return
    assert done.code in (3, 4), done
    assert len(done.complaints()) == 1, done
    assert file.name in done.stderr, done
    assert not out.exists()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize(
    "options", [["--shard-size", "1MB"], ["--format", "orbax"], ["--format", "orbax", "--zero-copy"]]
)
def test_an_input_that_changes_is_never_half_old_half_new(
    tmp_path: Path, source: Path, change: Callable[[Path], None], options: list[str]
) -> None:
    plain = [option for option in options if option != "--zero-copy"]
    links = ["--zero-copy", "--link", "copy", "--precision", "keep"] if plain != options else []
    words: list[object] = ["-q", "--workers", "1", *plain, *links]
    run("convert", "-i", source, "-o", tmp_path / "whole", *words)
    whole = tree_bytes(tmp_path / "whole")
    name = "model-00002-of-00002.safetensors"
    calls = run_with("read:0:none", "convert", "-i", source, "-o", tmp_path / "count", *words, only=f"in/{name}").calls
    assert calls > 3
    failed = 0
    for n in range(1, calls + 1, max(1, calls // 5)):
        copy, out = tmp_path / f"copy-{n}" / "in", tmp_path / f"out-{n}"
        shutil.copytree(source, copy)
        done = run_stopped_at(
            f"read:{n}:stop",
            lambda file=copy / name: change(file),
            "convert",
            "-i",
            copy,
            "-o",
            out,
            *words,
            only=f"in/{name}",
        )
        check_changed(done, out, whole, copy / name)
        failed += done.code != 0
    assert failed > 0


def test_a_source_that_changed_is_not_gone_on_from(tmp_path: Path, source: Path) -> None:
    name = "model-00002-of-00002.safetensors"
    words: list[object] = ["-i", source, "-o", tmp_path / "out", "-q", "--workers", "1", "--shard-size", "1MB"]
    done = run_stopped_at("write:3:stop", lambda: rewrite(source / name), "convert", *words, only="/journal")
    assert done.code == 4, done
    assert name in done.stderr
    assert "--resume goes on" in done.stderr
    again = run("convert", *words, "--resume", code=2)
    assert name in again.stderr
    run("convert", *words, "--overwrite")
    run("verify", "--model", tmp_path / "out", "--source", source)

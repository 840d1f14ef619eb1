# SPDX-License-Identifier: MIT
"""The n-th call of the system fails, for every n: one clear error, and nothing is lost, half there or left over.

The short tier takes a sample of the calls, the long tier all of them. tests/faults/faults.c is what fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from faults import Outcome, run_with

from conftest import run, tree_bytes, write_checkpoint

PARTIAL = ".tensorport-partial"
SAMPLE = int(os.environ.get("TENSORPORT_FAULT_SAMPLE", "1"))  # calls of each kind that the short tier lets fail

# What can fail, how, and the exit codes that are right then. 0 alone: nobody may notice. With others: where the work
# does not depend on it (a look that only helps, a file that was read to its end), the result must be the same.
IO, SPACE = {0, 4}, {0, 5}
FAULTS: dict[str, set[int]] = {
    "alloc:ENOMEM": SPACE,
    "read:EIO": IO,
    "read:EINTR": {0},
    "read:short": {0},
    "write:EIO": IO,
    "write:ENOSPC": SPACE,
    "write:ENOSPC+": SPACE,
    "write:EDQUOT": SPACE,
    "write:EINTR": {0},
    "write:short": {0},
    "allocate:ENOSPC": SPACE,
    "allocate:EOPNOTSUPP+": {0},
    "allocate:EINTR": {0},
    "truncate:EIO": IO,
    "truncate:EINTR": {0},
    "sync:EIO": IO,
    "sync:EINTR": {0},
    "rename:EIO": IO,
    "mkdir:ENOSPC": SPACE,
    "open:EMFILE": IO,
    "open:EIO+": IO,
    "open:EINTR": {0},
    "link:EIO": IO,
    "link:EXDEV": {0},
    "remove:EIO": IO,
    "remove:EIO+": IO,
    "thread:EAGAIN": {0},
    "thread:EAGAIN+": {0},
    "close:EIO": IO,
    "stat:EIO": IO,
    "list:EIO": IO,
    "lock:ENOLCK": {0},
    "lock:EINTR": {0},
}
# Not errors but ends: before any call that changes the disk, and before any that reads (which reading back does).
KILLS: dict[str, set[int]] = {
    "change:kill": {-signal.SIGKILL},
    "read:kill": {-signal.SIGKILL},
    "change:int": {0, 128 + signal.SIGINT},
    "read:int": {0, 128 + signal.SIGINT},
}


@dataclass(frozen=True)
class Job:
    """A run of the command, from a state of the output that an earlier one has left."""

    options: tuple[str, ...] = ()
    begins: str = "absent"  # absent, empty, old (a checkpoint to be replaced), stopped (an unfinished one)
    command: str = "convert"
    faults: tuple[str, ...] = tuple(FAULTS)
    source: str = "safetensors"
    unit: str = ""  # within the output: what appears whole
    stop: tuple[str, str] = ("write:3:kill", "/journal")  # how the earlier run was stopped: order, and path


LAYERS = Path(__file__).parents[1] / "data" / "maps" / "layers.json"
MSGPACK = ("--shard-size", "8KB")
SAFETENSORS = ("--format", "safetensors", "--precision", "float16")
ORBAX = ("--format", "orbax")
SPREAD = ("--map", str(LAYERS), "--precision", "keep", "--max-memory", "14MiB")
READING = tuple(name for name in FAULTS if name.split(":")[0] in ("alloc", "read", "open", "close", "stat", "list"))
THREADS = tuple(name for name in FAULTS if name.startswith("thread"))
JOBS = {
    "msgpack": Job(MSGPACK),
    "msgpack into an empty folder": Job((*MSGPACK, "--sync"), "empty"),
    "msgpack with sums": Job((*MSGPACK, "--sync", "--sha256"), faults=tuple(n for n in FAULTS if n[:5] != "alloc")),
    "msgpack resumed": Job((*MSGPACK, "--resume"), "stopped"),
    "msgpack resumed within a folder": Job((*MSGPACK, "--resume", "--overwrite"), "old and stopped"),
    "msgpack over an old one": Job((*MSGPACK, "--sync", "--overwrite"), "old"),
    "msgpack spread": Job(SPREAD, source="layers"),
    "safetensors": Job(SAFETENSORS),
    "safetensors decoded": Job(("--format", "safetensors", "--dequantize", "--shard-size", "30KB")),
    "orbax": Job((*ORBAX, "--step", "3"), unit="3"),
    "orbax without a database": Job((*ORBAX, "--no-ocdbt")),
    "orbax over an old one": Job((*ORBAX, "--overwrite", "--sync"), "old"),
    "orbax by reference": Job((*ORBAX, "--zero-copy", "--min-chunk", "0")),
    "orbax by reference, resumed": Job(
        (*ORBAX, "--zero-copy", "--min-chunk", "0", "--precision", "float16", "--resume"),
        "stopped",
        stop=("write:1:kill", "/manifest.json"),
    ),
    "jax": Job(("--format", "jax")),
    "jax over an old one": Job(("--format", "jax", "--overwrite"), "old"),
    "msgpack from orbax": Job(MSGPACK, source="orbax"),
    "verify": Job(MSGPACK, command="verify", faults=(*READING, *THREADS)),
    "verify orbax": Job(ORBAX, command="verify", faults=(*READING, *THREADS)),
    "inspect": Job(MSGPACK, command="inspect", faults=READING),
    "inspect orbax": Job(ORBAX, command="inspect", faults=READING),
}


def write_source(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {f"layer.{i}.w": rng.standard_normal((40, 30), dtype=np.float32) for i in range(4)}
    tensors |= {"norm": rng.standard_normal(7, dtype=np.float32), "empty": np.zeros((0, 3), np.float32)}
    tensors |= {"ids": np.arange(12), "half": rng.standard_normal((3, 5)).astype(np.float16)}
    tensors |= {"code.weight": rng.integers(0, 120, (64, 32), np.uint8).view(ml_dtypes.float8_e4m3fn)}
    tensors |= {"code.weight_scale_inv": np.full((1, 1), 0.5, np.float32)}
    write_checkpoint(folder, tensors, files=2)
    quantised = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps({"model_type": "none", "quantization_config": quantised}))
    return folder


def write_layers(folder: Path) -> Path:
    """Matrices that are stacked and transposed, more than fit in the least memory."""
    rng = np.random.default_rng(3)
    write_checkpoint(folder, {f"layer.{i}.w": rng.standard_normal((450, 400), dtype=np.float32) for i in range(2)})
    (folder / "config.json").write_text('{"model_type": "none"}')
    return folder


@dataclass
class Place:
    """Folders of one job: where it reads, where it writes, and copies of what was there and what must come."""

    job: Job
    source: Path
    out: Path
    before: Path
    whole: dict[str, bytes]
    old: dict[str, bytes]
    records: int = 0  # of the journal that the job begins with

    def command(self, *more: str) -> list[object]:
        if self.job.command == "verify":
            return ["verify", "--model", self.out, "--source", self.source, "--workers", "1", "--json"]
        if self.job.command == "inspect":
            return ["inspect", self.out, "--json"]
        options = [*self.job.options, *(word for word in more if word not in self.job.options)]
        return ["convert", "-i", self.source, "-o", self.out, "-q", "--workers", "1", *options]

    def begin(self) -> None:
        """The state that the job begins with."""
        for path in (self.out, self.beside()):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.before, self.out.parent, dirs_exist_ok=True)

    def beside(self) -> Path:
        unit = self.out / self.job.unit if self.job.unit else self.out
        return unit.with_name(unit.name + PARTIAL)

    def partial(self) -> Path | None:
        """The folder of an unfinished conversion, if there is one."""
        return next((path for path in (self.beside(), self.out / PARTIAL) if path.exists()), None)

    def files(self) -> dict[str, bytes]:
        """Of the output, without those of a partial folder."""
        found = tree_bytes(self.out) if self.out.exists() else {}
        return {name: data for name, data in found.items() if PARTIAL not in name}


def journal_records(partial: Path) -> int:
    journal = partial / ".resume" / "journal"
    return (journal.stat().st_size - 24) // 88 if journal.exists() else 0


def stop_in(place: Place) -> None:
    """Killed when some blocks are in the journal."""
    done = run_with(place.job.stop[0], *place.command(), only=place.job.stop[1])
    assert done.code < 0, done


@pytest.fixture(scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Place]:
    def make(name: str) -> Place:
        job, folder = JOBS[name], tmp_path_factory.mktemp("job")
        source = write_source(folder / "in", 1)
        if job.source == "layers":
            source = write_layers(folder / "in-layers")
        if job.source == "orbax":
            run("convert", "-i", source, "-o", folder / "in-orbax", "-q", *ORBAX)
            source = folder / "in-orbax"
        place = Place(job, source, folder / "at" / "out", folder / "before", {}, {})
        place.before.mkdir()
        place.out.parent.mkdir()
        plain = [word for word in job.options if word not in ("--overwrite", "--resume")]
        if "old" in job.begins:
            kind = plain if "--format" in plain else MSGPACK
            run("convert", "-i", write_source(folder / "in-old", 2), "-o", place.out, "-q", *kind)
            place.old = place.files()
        if "stopped" in job.begins:
            stop_in(place)
            partial = place.partial()
            place.records = journal_records(partial) if partial else 0
            assert place.records > 0
        if job.begins == "empty":
            place.out.mkdir()
        if job.command != "convert":
            run("convert", "-i", place.source, "-o", place.out, "-q", *plain)
        shutil.copytree(place.out.parent, place.before, dirs_exist_ok=True)
        run("convert", "-i", place.source, "-o", folder / "whole", "-q", *plain)
        place.whole = tree_bytes(folder / "whole")
        return place

    return make


class Wrong(Exception):  # noqa: N818
    """What a run with a fault did that it must not."""


def demand(fact: object, otherwise: str, done: Outcome) -> None:
    if not fact:
        raise Wrong(f"{otherwise}: {done}")


def check_words(done: Outcome) -> None:
    """One error, which names the file, or says what the system did not give."""
    said = done.complaints()
    demand(len(said) == 1, f"{len(said)} errors", done)
    if done.order.startswith("alloc:"):
        demand("memory" in said[0], "it does not say of what", done)
    else:
        names = Path(done.where or "").parts[-2:]
        named = any(name in done.stderr for name in names) or done.order.endswith("+")  # that may be a later one
        demand(named, f"none of {names} is named", done)


def check_left(place: Place, done: Outcome) -> None:
    """After an error: what was there is there, and what was finished is kept."""
    found, partial = place.files(), place.partial()
    if found == place.whole and not partial:
        return  # the error came after the last step
    if partial and not (partial / "UNFINISHED.txt").exists():
        return  # while files are exchanged; whether all of them are there, the recovery tells
    demand(found == place.old, f"the output is not what it was: {sorted(found)}", done)
    if place.records:
        kept = journal_records(partial) if partial else 0
        demand(kept >= place.records, f"of {place.records} finished blocks {kept} are left", done)
    untidy = done.code < 0 or done.order.startswith(("remove:", "open:", "list:", "stat:"))  # it could not tidy up
    if partial and not untidy:
        demand(place.records or journal_records(partial), "a partial folder with nothing finished is left", done)
    if not partial and "old" not in place.job.begins and done.code > 0:
        left = {path.name for path in place.out.parent.rglob("*")}
        demand(left <= {"out"} - ({"out"} if place.job.begins == "absent" else set()), f"{left} is left over", done)


def check_recovers(place: Place, done: Outcome) -> None:
    """The same command again, or with --resume where something unfinished is left, ends as if nothing had been."""
    if place.files() != place.whole or place.partial():
        again = run(*place.command(*(["--resume"] if place.partial() else [])), code=None)
        finished = again.returncode == 2 and "was finished" in again.stderr
        demand(again.returncode == 0 or finished, f"not gone on from: {again.stderr}\nafter", done)
    demand(place.files() == place.whole, "gone on from it, the output differs", done)
    demand(not place.partial(), "a partial folder is left", done)


def check(place: Place, done: Outcome, plain: str) -> None:
    """`plain`: what the command prints when nothing fails."""
    expected = (FAULTS | KILLS)[kind_of(done.order)] if done.where else {0}
    demand(done.code in expected, f"exit code {done.code}", done)
    if kind_of(done.order) in FAULTS and done.code != 0:
        check_words(done)
    if place.job.command != "convert":
        demand(done.code != 0 or untimed(done.stdout) == plain, "it prints something else", done)
    elif done.code == 0:
        demand(place.files() == place.whole, "the output differs", done)
        demand(not place.partial(), "a partial folder is left", done)
    else:
        check_left(place, done)
        check_recovers(place, done)


def untimed(text: str) -> str:
    """JSON without what is different in each run."""
    return re.sub(r'"(\w*_s|peak\w*)": ?[\d.e+-]+', "", text)


def kind_of(order: str) -> str:
    """Without the number."""
    call, _, what = order.split(":")
    return f"{call}:{what}"


def orders(place: Place, fault: str, sample: int) -> Iterator[str]:
    """Each n in turn, or a sample of them."""
    call, what = fault.split(":")
    place.begin()
    calls = run_with(f"{call}:0:none", *place.command()).calls
    step = max(1, calls // sample) if sample else 1
    for n in range(1 + sum(map(ord, fault)) % step, calls + 1, step):
        yield f"{call}:{n}:{what}"


def sweep(place: Place, sample: int, faults: tuple[str, ...]) -> tuple[int, list[str]]:
    """Faults that happened, and what was wrong with any of them."""
    happened, wrong = 0, []
    place.begin()
    plain = "" if place.job.command == "convert" else untimed(run(*place.command()).stdout)
    for order in (order for fault in faults for order in orders(place, fault, sample)):
        place.begin()
        done = run_with(order, *place.command())
        if "AddressSanitizer: CHECK failed" in done.stderr:
            continue  # that was memory which the sanitizer itself needed
        happened += done.where is not None
        try:
            check(place, done, plain)
        except Wrong as found:
            wrong.append(str(found))
    return happened, wrong


def tell(happened: int, wrong: list[str]) -> None:
    print(f"{happened - len(wrong)} of {happened} faults survived")
    if wrong:
        pytest.fail(f"{len(wrong)} of {happened} faults:\n\n" + "\n".join(wrong[:40]), pytrace=False)


@pytest.mark.parametrize("name", JOBS)
def test_a_call_that_fails_is_one_clear_error_and_loses_nothing(make_place: Callable[[str], Place], name: str) -> None:
    happened, wrong = sweep(make_place(name), SAMPLE, JOBS[name].faults)
    tell(happened, wrong)
    assert happened > 0


CONVERSIONS = [name for name, job in JOBS.items() if job.command == "convert"]


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.skipif("LLVM_PROFILE_FILE" in os.environ, reason="a measured program writes files of its own as it ends")
def test_killed_at_any_call_it_is_gone_on_from(make_place: Callable[[str], Place], name: str) -> None:
    tell(*sweep(make_place(name), 2 * SAMPLE, tuple(KILLS)))


@pytest.mark.long
@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("name", CONVERSIONS)
def test_at_whichever_call_it_is_killed(make_place: Callable[[str], Place], name: str, kill: str) -> None:
    tell(*sweep(make_place(name), 0, (kill,)))


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", JOBS)
def test_whichever_call_fails(make_place: Callable[[str], Place], name: str, fault: str) -> None:
    if fault not in JOBS[name].faults:
        pytest.skip("this command does not call it")
    tell(*sweep(make_place(name), 0, (fault,)))

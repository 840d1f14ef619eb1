# SPDX-License-Identifier: MIT
"""The reader beside the reference: thousands of generated headers through both.

What TensorPort accepts the reference accepts, with the same tensors and bytes; what the reference refuses TensorPort
refuses. Where TensorPort is stricter, its message must be one of STRICTER (docs/formats/safetensors.md says why).

Environment: TENSORPORT_READ_HEADERS is the program built from tests/unit/read_headers.c.
"""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from malformed import make_all, random_damage
from safetensors import SafetensorError, deserialize

from conftest import DTYPES, ROOT

STRICTER = [
    r"^the header lists it twice$",
    r"'.*' occurs twice$",
    r"^expected an object for the tensor's entry, found a list$",
    r"^expected a string for dtype, found an object$",
    r"contains a NUL character$",
    r"^the name is \d+ bytes long; at most 4096 are read$",
    r"^shape has more than 64 dimensions$",
    r"^shape \[.*\b0\b.*\] of \w+ has more bytes than any file$",  # 0 elements, but the other sizes wrap
    r"^a size in shape is \d{19,20}; expected a whole number from 0 to 2\^63-1$",
    r"a number of more than 256 characters",
]


def reader() -> Path:
    """Where the program is; the test fails if it is nowhere."""
    path = Path(os.environ.get("TENSORPORT_READ_HEADERS") or ROOT / "build" / "tests" / "unit" / "read_headers")
    if not path.exists():
        pytest.fail(f"no program at {path}: build it, or set TENSORPORT_READ_HEADERS")
    return path.resolve()


def read_all(folder: Path, files: list[bytes]) -> list[dict[str, Any]]:
    """What TensorPort makes of each file."""
    paths = []
    for number, content in enumerate(files):
        paths.append(folder / f"{number}.safetensors")
        paths[-1].write_bytes(content)
    done = subprocess.run(
        [reader()], input="".join(f"{path}\n" for path in paths), capture_output=True, encoding="utf-8", check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(files)
    return [json.loads(line) for line in lines]


def by_reference(content: bytes) -> dict[str, tuple[str, list[int], bytes]] | str:
    """Name to dtype, shape and bytes, or why it was refused."""
    try:
        found = deserialize(content)
    except (SafetensorError, OverflowError) as refused:
        return str(refused)
    return {name: (t["dtype"], list(t["shape"]), bytes(t["data"])) for name, t in found}


def by_tensorport(content: bytes, answer: dict[str, Any]) -> dict[str, tuple[str, list[int], bytes]]:
    """The same of an answer of read_headers."""
    start = 8 + struct.unpack("<Q", content[:8])[0]
    return {name: (dtype, shape, content[start + b : start + e]) for name, dtype, shape, b, e, _ in answer["tensors"]}


def is_listed_twice(content: bytes) -> bool:
    """A name occurs twice in the header; then the reference looks at the last entry only."""
    length = struct.unpack("<Q", content[:8])[0]
    names = [name for name, _ in json.loads(content[8 : 8 + length], object_pairs_hook=list)]
    return len(names) > len(set(names))


def compare(folder: Path, files: list[bytes]) -> dict[str, int]:
    """Fail on the first difference; else how many were accepted, refused, refused by TensorPort alone."""
    counts = {"accepted": 0, "refused": 0, "stricter": 0}
    for content, answer in zip(files, read_all(folder, files), strict=True):
        expected = by_reference(content)
        if answer["status"] == "ok":
            assert by_tensorport(content, answer) == expected, content
            counts["accepted"] += 1
        elif isinstance(expected, str):
            assert answer["message"], content
            counts["refused"] += 1
        else:
            known = any(re.search(row, answer["message"]) for row in STRICTER)
            assert known or is_listed_twice(content), (answer["message"], content)
            counts["stricter"] += 1
    return counts


class Headers:
    """Makes files, most of them sound but for one thing."""

    def __init__(self, seed: int) -> None:
        """Start; the same seed makes the same files."""
        self.rng = random.Random(seed)

    def chance(self, odds: float) -> bool:
        """True once in a while."""
        return self.rng.random() < odds

    def text(self, value: str) -> str:
        """A JSON string, some characters escaped."""
        out = []
        for c in value:
            if c in '"\\' or ord(c) < 0x20 or self.chance(0.05):
                units = c.encode("utf-16-be", "surrogatepass")
                out += [f"\\u{units[i] << 8 | units[i + 1]:04{self.rng.choice('xX')}}" for i in range(0, len(units), 2)]
            else:
                out.append(c)
        return '"' + "".join(out) + '"'

    def blank(self) -> str:
        """Mostly nothing."""
        return self.rng.choice(["", " ", "\n", "\t\r "]) if self.chance(0.05) else ""

    def name(self) -> str:
        """A tensor's name."""
        alphabet = 'abc.0_/\\"\x01\x1b\x7f\u00e9\u20ac\U0001f600' + ("\0" if self.chance(0.02) else "")
        return "".join(self.rng.choice(alphabet) for _ in range(self.rng.randint(0, 12)))

    def shape(self) -> list[int]:
        """Sizes; zero now and then, and sometimes many."""
        rank = 65 if self.chance(0.004) else self.rng.choice([0, 1, 1, 2, 2, 3, 64 if self.chance(0.05) else 4])
        return [1 if rank > 4 else self.rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(rank)]

    def unknown(self, depth: int = 0) -> str:
        """Any JSON value."""
        kind = self.rng.randrange(9 if depth < 4 else 7)
        if kind < 7:
            numbers = ["0", "-1.5e3", "1e400", "9" * 400, "0." + "0" * 300 + "1", "-0", "1E-400", str(2**64)]
            return ["null", "true", "false", self.text(self.name()), "7", self.rng.choice(numbers), "3.25"][kind]
        items = [self.unknown(depth + 1) for _ in range(self.rng.randint(0, 3))]
        if kind == 7:
            return "[" + ",".join(items) + "]"
        return "{" + ",".join(f"{self.text(self.name())}:{item}" for item in items) + "}"

    def members(self, rows: list[str]) -> str:
        """An object of rows, in any order, with blanks."""
        self.rng.shuffle(rows)
        return self.blank() + "{" + ",".join(self.blank() + row + self.blank() for row in rows) + "}" + self.blank()

    def number(self, value: int) -> str:
        """Mostly as it should be."""
        if not self.chance(0.004):
            return str(value)
        plain = [str(value + 1), str(2**63 + value)]
        return self.rng.choice([f"{value}.0", f"-{value}", f"0{value}", f"{value}e0", f'"{value}"', "null", *plain])

    def entry(self, dtype: str, shape: list[int], begin: int, end: int) -> str:
        """One tensor's entry, now and then wrong."""
        sizes = [self.number(n) for n in shape]
        if shape and 0 in shape and self.chance(0.02):
            sizes[-1] = self.rng.choice(["4611686018427387904", "9223372036854775807", "18446744073709551615"])
        fields = {
            "dtype": f'"{dtype}"',
            "shape": "[" + ",".join(sizes) + "]",
            "data_offsets": f"[{self.number(begin)},{self.number(end)}]",
        }
        if self.chance(0.006):
            return "[" + ",".join(fields.values()) + "]"
        if self.chance(0.01):
            fields["dtype"] = self.rng.choice([f'{{"{dtype}":null}}', f'"{dtype.lower()}"', '"F128"', "null", "7"])
        rows = [f"{self.text(key)}:{value}" for key, value in fields.items()]
        if self.chance(0.03):
            rows += [f'"stride":{self.unknown()}'] * self.rng.choice([1, 1, 2])
        if self.chance(0.006):
            rows.append(self.rng.choice(rows))
        if self.chance(0.006):
            rows.pop()
        return self.members(rows)

    def metadata(self) -> str:
        """Mostly strings to strings."""
        if self.chance(0.1):
            return self.rng.choice(["null", "{}", "[]", '"x"', "7"])
        rows = [f"{self.text(self.name())}:{self.text(self.name())}" for _ in range(self.rng.randint(0, 3))]
        if self.chance(0.1):
            rows.append(f"{self.text(self.name())}:{self.unknown()}")
        return self.members(rows)

    def place(self, begin: int, end: int) -> tuple[int, int]:
        """Now and then somewhere else."""
        if not self.chance(0.01):
            return begin, end
        return self.rng.choice([(begin + 1, end + 1), (begin, end + 1), (end, begin), (0, end - begin), (begin, begin)])

    def file(self) -> bytes:
        """One file."""
        rows, data = [], b""
        for _ in range(self.rng.randint(0, 6)):
            dtype, shape = self.rng.choice(list(DTYPES)), self.shape()
            bits = DTYPES[dtype][0]
            for n in shape:
                bits *= n
            raw = self.rng.randbytes((bits + 7) // 8)
            place = self.place(len(data), len(data) + len(raw))
            rows.append(f"{self.text(self.name())}:{self.entry(dtype, shape, *place)}")
            data += raw
        if self.chance(0.3):
            rows.append(f"{self.text('__metadata__')}:{self.metadata()}")
        if rows and self.chance(0.01):
            rows.append(self.rng.choice(rows))
        header = self.members(rows).encode("utf-8", "surrogatepass")
        if self.chance(0.01):
            data = self.rng.choice([data + b"x", data[:-1]])
        if self.chance(0.02):
            at = self.rng.randrange(len(header))
            header = header[:at] + bytes([self.rng.randrange(256)]) + header[at + 1 :]
        return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_headers_mean_the_same_to_both(tmp_path: Path, seed: int) -> None:
    make = Headers(seed)
    counts = compare(tmp_path, [make.file() for _ in range(2000)])
    assert counts["accepted"] > 600, counts  # else the test tests little
    assert counts["refused"] > 100, counts
    assert counts["stricter"] > 10, counts


def test_damaged_files_mean_the_same_to_both(tmp_path: Path) -> None:
    counts = compare(tmp_path, random_damage(4, 3000))
    assert counts["refused"] > 1000, counts


@pytest.mark.parametrize("depth", [1, 64, 123, 124, 125, 126, 127, 128, 129, 1000])
def test_nesting_ends_where_the_reference_ends_it(tmp_path: Path, depth: int) -> None:
    header = '{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":' + "[" * depth + "]" * depth + "}}"
    compare(tmp_path, [struct.pack("<Q", len(header)) + header.encode()])


def test_hand_made_files_are_refused_by_the_reference_or_by_a_stricter_rule(tmp_path: Path) -> None:
    cases = [c for c in make_all(tmp_path / "cases") if c.path.is_file() and c.path.stat().st_size < 1 << 24]
    (tmp_path / "files").mkdir()
    counts = compare(tmp_path / "files", [c.path.read_bytes() for c in cases])
    assert counts["accepted"] > 20, counts
    assert counts["refused"] > 90, counts

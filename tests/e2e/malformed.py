# SPDX-License-Identifier: MIT
"""Malformed and hostile checkpoints, one a name, with what TensorPort must say to each.

`python malformed.py FOLDER` writes them all; `make_all(folder)` does and returns the cases. Names: a length and framing,
b encoding, c syntax, d duplicates, e metadata, g dtype, h shape, i offsets, j other formats, k sundry, x index and folder,
y folders that are sound but unusual. docs/formats/safetensors.md says the rules in words.
"""

import json
import os
import random
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ACCEPT, WARN, REJECT = "accept", "warn", "reject"
EXIT = {ACCEPT: 0, WARN: 0, REJECT: 3}


@dataclass
class Case:
    """One checkpoint and its verdict."""

    name: str
    verdict: str
    path: Path  # what is given to the command
    says: tuple[str, ...]  # what the message, or the warning, must contain
    tensor: str  # as shown, or ""


T = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
T_TEXT = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
DATA = struct.pack("<2f", 1.5, -2.0)


def framed(header: str | bytes, data: bytes = DATA, length: int | None = None) -> bytes:
    """A safetensors file around a header, whatever it says."""
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(entry: str, data: bytes = DATA, name: str = '"t"') -> bytes:
    """A file with one tensor, its entry given as text."""
    return framed("{" + name + ":" + entry + "}", data)


def entry(dtype: str = '"F32"', shape: str = "[2]", offsets: str = "[0,8]", more: str = "") -> str:
    """An entry's text."""
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}'


def shaped(shape: str, dtype: str = "F32", size: int = 8) -> bytes:
    """A file whose only fault can be its shape."""
    return one(entry(f'"{dtype}"', shape, f"[0,{size}]"), bytes(size))


def placed(*offsets: tuple[int, int], size: int) -> bytes:
    """Tensors of U8 at the given places."""
    entries = [
        f'"t{i}":{entry(chr(34) + "U8" + chr(34), f"[{e - b}]", f"[{b},{e}]")}' for i, (b, e) in enumerate(offsets)
    ]
    return framed("{" + ",".join(entries) + "}", bytes(size))


def tensors(**named: tuple[str, list[int], bytes]) -> bytes:
    """A sound file. A dot in a name is written as two underscores."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in named.items():
        header[name.replace("__", ".")] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return framed(json.dumps(header), data)


def simple(*names: str) -> bytes:
    """A sound file of small F32 tensors."""
    return tensors(**{name: ("F32", [2], DATA) for name in names})


FILES: dict[str, tuple[str, bytes, tuple[str, ...], str]] = {}


def add(name: str, verdict: str, content: bytes, *says: str, tensor: str = "") -> None:
    """Remember a case that is one file."""
    assert name not in FILES
    FILES[name] = (verdict, content, says, tensor)


def add_framing() -> None:
    """6.1 Length and framing, and other formats."""
    sound = one(T_TEXT)
    add("a01", REJECT, b"", "0 bytes")
    add("a02", REJECT, bytes(7), "7 bytes")
    add("a03", REJECT, struct.pack("<Q", 60), "60 bytes", "8 bytes")
    add("a04", REJECT, bytes(8), "empty")
    add("a05", REJECT, framed("{", b""), "JSON")
    add("a06", ACCEPT, framed("{}", b""))
    add("a07", REJECT, struct.pack("<Q", 1000) + b"{}", "1,000 bytes", "10 bytes")
    add("a08", REJECT, struct.pack("<Q", 100_000_001) + b"{}", "100,000,001")
    add("a09", REJECT, struct.pack("<Q", 100_000_000) + b"{}", "100,000,000")
    add("a10", REJECT, struct.pack("<Q", 2**64 - 1) + b"{}")
    add("a12", REJECT, struct.pack("<Q", 2**64 - 8) + b"{}")
    add("a13", REJECT, framed('{"t":' + T_TEXT + "}", length=20), "JSON")
    add("a14", REJECT, framed('{"t":' + T_TEXT + "}", length=len('{"t":' + T_TEXT + "}") + 8), "JSON")
    add("a15", REJECT, struct.pack(">Q", len(sound) - 16) + sound[8:])
    add("i06", REJECT, sound + b"extra", "5 at the end")
    add("i07", REJECT, sound[:-2], "truncated", "2 are missing")
    add("i21", ACCEPT, framed('{"t":' + T_TEXT + "}" + " " * (11 - len('{"t":' + T_TEXT + "}") % 8)))
    add("i22", ACCEPT, tensors(a=("U8", [1], b"\1"), b=("F32", [1], DATA[:4])))
    add("i24", REJECT, tensors(a=("U8", [4096], bytes(4096)))[:-2048], "truncated", "2,048")
    add(
        "j01",
        REJECT,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 16384096\n",
        "Git LFS",
        "git lfs pull",
    )
    add("j02", REJECT, b"<!DOCTYPE html><html><body>404</body></html>\n", "HTML")
    add("j03", REJECT, b"PK\3\4" + bytes(60), "ZIP")
    add("j04", REJECT, b"GGUF\3\0\0\0" + bytes(60), "GGUF")
    add("j05", REJECT, b"\x1f\x8b\x08\0\0\0\0\0" + bytes(60), "gzip")
    add("j06", REJECT, b"# xet version 0\nfilesize = 1\nhash = 'ab'\n", "Xet")
    add("j07", REJECT, bytes(4096), "zeros")
    add("j08", REJECT, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "pickle")


def add_json() -> None:
    """6.2 Encoding and JSON."""
    t = '{"t":' + T_TEXT + "}"
    add("b01", REJECT, framed(b"\xff", b""), "0xff")
    add("b02", REJECT, framed(b'{"\xc0\x80":' + T_TEXT.encode() + b"}"), "UTF-8")
    add("b03", REJECT, framed(b'{"\xed\xa0\x80":' + T_TEXT.encode() + b"}"), "UTF-8")
    add("b04", REJECT, framed(b"\xef\xbb\xbf{}", b""), "0xef")
    add("b05", REJECT, framed("{}".encode("utf-16-le"), b""))
    add("b06", REJECT, framed(t + "\0\0\0"), "0x00")
    add("b07", ACCEPT, framed(t + " \t\r\n"))
    add("b08", ACCEPT, framed(" \t\r\n" + t))
    add("b09", REJECT, framed(t + "\v"), "0x0b")
    add("b10", REJECT, framed(t + "x"), "'x'")
    add("b11", REJECT, framed(t + "{}"), "'{'")
    add("b12", REJECT, framed('{"\1":' + T_TEXT + "}"), "control character")
    add("b13", REJECT, framed('{"\\ud800":' + T_TEXT + "}"), "surrogate")
    add("b14", REJECT, framed('{"a\\u0000b":' + T_TEXT + "}"), "NUL", tensor="a\\x00b")
    add("b16", REJECT, framed('{"\\x41":' + T_TEXT + "}"), "backslash")
    add("b17", REJECT, framed('{"a\nb":' + T_TEXT + "}"), "control character")
    add("b18", REJECT, framed('{"\\ude00\\ud83d":' + T_TEXT + "}"), "surrogate")
    add("b20", ACCEPT, framed('{"a\x7fb":' + T_TEXT + "}"))
    add("c01", REJECT, framed("[]", b""), "a list")
    add("c02", REJECT, framed("null", b""), "null")
    add("c03", REJECT, framed('"x"', b""), "a string")
    add("c04", REJECT, framed("1", b""), "a whole number")
    add("c05", REJECT, framed('{"t":' + T_TEXT + ",}"), "'}'")
    add("c06", REJECT, framed("{'t':" + T_TEXT + "}"), "'''")
    add("c07", REJECT, framed('{/*x*/"t":' + T_TEXT + "}"), "'/'")
    add("c08", REJECT, framed("{t:" + T_TEXT + "}"), "'t'")
    add("c09", REJECT, one(entry(more=',"x":' + "[" * 200 + "]" * 200)), "128 levels", tensor="t")
    add("c10", WARN, one(entry(more=',"x":' + "[" * 100 + "]" * 100)), "fields", "(x)")
    add("c11", REJECT, framed("[" * 1_000_000, b""))
    for name, text in (
        ("c12", "null"),
        ("c13", "5"),
        ("c14", '["F32",[2],[0,8]]'),
        ("k04", '"x"'),
        ("k05", '["F32",[2],[0,8],1]'),
    ):
        add(name, REJECT, one(text), "expected an object", tensor="t")
    add("c21", REJECT, one("{}"), "has no dtype", tensor="t")
    add("c23", REJECT, one('{"u":' + T_TEXT + "}"), "has no dtype", tensor="t")
    add("c15", WARN, one(entry(more=',"stride":[1]')), "fields", "(stride)")
    add("k15", REJECT, one(entry(more=',"stride":[1],"stride":[1]')), "'stride' occurs twice", tensor="t")
    for name, missing in (("c16", "dtype"), ("c17", "shape"), ("c18", "data_offsets")):
        add(
            name, REJECT, one(json.dumps({k: v for k, v in T.items() if k != missing})), f"has no {missing}", tensor="t"
        )
    add("c19", REJECT, one(entry(shape="[NaN]")), "'N'", tensor="t")
    add("c20", ACCEPT, one(T_TEXT, name='"../../etc/passwd"'))
    add("c22", ACCEPT, one('{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}'))
    add("d01", REJECT, framed(f'{{"t":{T_TEXT},"t":{T_TEXT}}}'), "twice", tensor="t")
    add("d02", REJECT, framed(f'{{"t":{entry(offsets="[0,4]")},"t":{T_TEXT}}}'), tensor="t")
    add("d03", REJECT, framed(f'{{"__metadata__":{{}},"t":{T_TEXT},"__metadata__":{{}}}}'), "__metadata__ occurs twice")
    add("d04", REJECT, framed(f'{{"__metadata__":{{"a":"1","a":"2"}},"t":{T_TEXT}}}'), "'a' occurs twice")
    add("d05", REJECT, one(entry(more=',"dtype":"F32"')), "'dtype' occurs twice", tensor="t")
    add("d06", REJECT, one(entry(more=',"data_offsets":[0,8]')), "'data_offsets' occurs twice", tensor="t")
    add("d10", REJECT, one(entry(more=',"shape":[2]')), "'shape' occurs twice", tensor="t")
    add("d07", REJECT, framed(f'{{"t":{T_TEXT},"\\u0074":{T_TEXT}}}'), "twice", tensor="t")
    add(
        "d08",
        REJECT,
        framed(f'{{"t":{T_TEXT},"u":{entry(offsets="[8,16]")},"t":{T_TEXT}}}', DATA * 2),
        "twice",
        tensor="t",
    )
    add("d09", ACCEPT, tensors(**{"caf\u00e9": ("U8", [1], b"\1"), "cafe\u0301": ("U8", [1], b"\2")}))
    twice = f'{{"t":{T_TEXT},"u":{entry(offsets="[8,16]")},"t":{entry(offsets="[16,24]")}}}'
    add("k03", REJECT, framed(twice, DATA * 3), "twice", tensor="t")
    add("e01", ACCEPT, framed(f'{{"__metadata__":null,"t":{T_TEXT}}}'))
    add("e10", ACCEPT, framed(f'{{"__metadata__":{{}},"t":{T_TEXT}}}'))
    for name, value in (
        ("e02", '{"a":1}'),
        ("e03", '{"a":{}}'),
        ("e04", '{"a":[]}'),
        ("e05", '{"a":null}'),
        ("e06", '{"a":true}'),
        ("e07", "[]"),
        ("e08", '"x"'),
        ("e09", T_TEXT),
        ("e11", '{"a":"\\u0000"}'),
    ):
        add(name, REJECT, framed(f'{{"__metadata__":{value},"t":{T_TEXT}}}'), "__metadata__")
    add("k01", ACCEPT, framed(f'{{"t":{T_TEXT},"__metadata__":{{"format":"pt"}}}}'))
    add("k02", ACCEPT, framed(f'{{"\\u005f_metadata__":{{"format":"pt"}},"t":{T_TEXT}}}'))
    add("k06", REJECT, one(entry(more=',"x":1e400')), "out of range", tensor="t")
    add("k07", REJECT, one(entry(more=',"x":' + "9" * 400)), tensor="t")
    add("k08", REJECT, one(T_TEXT, name='"' + "n" * 1_000_000 + '"'), "1000000 bytes", tensor="nnn")
    add("k09", ACCEPT, framed(t + " " * 4096))
    add("k10", REJECT, framed(t + "\f"), "0x0c")
    add("k11", REJECT, framed(t + "\u00a0"), "0xc2")
    add("k12", ACCEPT, framed(f'{{"__metadata__":{{"a":"{"x" * 1_000_000}"}},"t":{T_TEXT}}}'))
    add("k17", ACCEPT, one(T_TEXT, name='""'))
    add("k18", ACCEPT, one(T_TEXT, name='"\\u001b[31mred\\u0007"'))
    add("k20", REJECT, one(entry(shape="[3]"), name='"\\u001b[31mred\\u0007"'), "12 bytes", tensor="\\x1b[31mred\\x07")


def add_shapes() -> None:
    """6.3 dtype, shape, size."""
    for name, dtype in (
        ("g01", '"F128"'),
        ("g02", '"f32"'),
        ("g06", '"float32"'),
        ("g11", '"C128"'),
        ("g12", '"F8_E4M3FN"'),
        ("g13", '"I4"'),
        ("g16", '"F32 "'),
        ("k16", '""'),
    ):
        add(name, REJECT, one(entry(dtype)), "unknown dtype", tensor="t")
    for name, dtype in (("g03", "1"), ("g05", "null"), ("g04", '{"F32":null}')):
        add(name, REJECT, one(entry(dtype)), "expected a string for dtype", tensor="t")
    add("g07", REJECT, shaped("[3]", "F4", 1), "whole bytes", tensor="t")
    add("g08", ACCEPT, shaped("[4]", "F4", 2))
    add("g09", REJECT, shaped("[3]", "F6_E2M3", 2), "whole bytes", tensor="t")
    add("g10", ACCEPT, shaped("[4]", "F6_E3M2", 3))
    add("g14", ACCEPT, tensors(t=("F32", [2], struct.pack("<2f", float("nan"), float("inf")))))
    add(
        "k19", ACCEPT, tensors(t=("BOOL", [4], b"\0\1\2\xff"))
    )  # counted and warned of by a conversion, which looks at data
    for name, shape in (
        ("h01", "[-2]"),
        ("h02", "[2.0]"),
        ("h03", "[2e0]"),
        ("h04", '["2"]'),
        ("h05", "[true]"),
        ("h06", "[null]"),
        ("h22", "2"),
        ("h23", "[[2]]"),
        ("h24", "{}"),
        ("h09", "[18446744073709551616]"),
        ("h18", "[02]"),
        ("h20", "[+2]"),
        ("h21", "[0x2]"),
        ("h19", "[-0]"),
    ):
        add(name, REJECT, shaped(shape), tensor="t")
    add("h07", REJECT, shaped("[2,18446744073709551614]"), tensor="t")
    add("h08", REJECT, shaped("[2,9223372036854775807]", "I32"), "more bytes than any file", tensor="t")
    add("h10", REJECT, shaped("[0,18446744073709551615,18446744073709551615]", size=0), tensor="t")
    add("h11", REJECT, shaped("[18446744073709551615,18446744073709551615,0]", size=0), tensor="t")
    add("h25", REJECT, shaped("[0,9223372036854775807,9223372036854775807]", size=0), tensor="t")
    add("h12", REJECT, shaped("[4611686018427387908]", size=16), tensor="t")
    add("h13", ACCEPT, shaped("[]", size=4))
    add("h14", REJECT, shaped("[]", "I32", 0), "needs 4 bytes", tensor="t")
    add("h15", ACCEPT, placed((0, 0), (0, 8), size=8))
    add("i18", ACCEPT, placed((0, 4), (4, 4), (4, 8), (8, 8), size=8))
    add("h16", REJECT, shaped("[2,0]", size=4), "needs 0 bytes", tensor="t")
    add("h17", REJECT, shaped("[" + ",".join(["1"] * 1000) + "]", size=4), "more than 64 dimensions", tensor="t")
    add("h26", ACCEPT, shaped("[" + ",".join(["1"] * 64) + "]", size=4))
    add("i08", REJECT, shaped("[2,2]", "I32", 4), "[2, 2] of I32 needs 16 bytes, data_offsets give 4", tensor="t")
    add("i09", REJECT, shaped("[1]"), "needs 4 bytes, data_offsets give 8", tensor="t")
    add("i26", REJECT, one(entry('"U8"', f"[{2**61}]", f"[0,{2**61}]"), b""), "more bytes than any file", tensor="t")


def add_offsets() -> None:
    """6.4 Offsets."""
    add("i01", REJECT, placed((8, 16), size=16), "belongs to no tensor", tensor="t0")
    add("i02", REJECT, placed((0, 8), (16, 24), size=24), "hole", tensor="t1")
    add("i03", REJECT, placed((0, 8), (0, 8), size=8), "overlap", tensor="t")
    add("i04", REJECT, placed((0, 8), (4, 12), size=12), "overlap", tensor="t1")
    add("i05", REJECT, one(entry(offsets="[8,0]")), "end at 0, before they begin at 8", tensor="t")
    add("i10", REJECT, one(entry(offsets="[0]")), tensor="t")
    add("i11", REJECT, one(entry(offsets="[0,8,8]")), "more than two", tensor="t")
    add("i23", REJECT, one(entry(offsets='{"a":0,"b":8}')), tensor="t")
    add("i12", REJECT, one(entry(offsets="[-8,0]")), "-8", tensor="t")
    add("i13", REJECT, one(entry(offsets="[0,8.0]")), "8.0", tensor="t")
    add("i14", REJECT, one(entry(offsets=f"[0,{2**64 - 1}]")), tensor="t")
    add("i15", REJECT, one(entry('"U8"', f"[{2**64 - 1}]", f"[0,{2**64 - 1}]")), tensor="t")
    add("i16", REJECT, one(entry('"U8"', "[8]", f"[{2**63 - 9},{2**63 - 1}]")), tensor="t")
    add("i17", REJECT, framed("{}"), "8 at the end")
    add("i19", REJECT, placed((0, 8), (4, 4), size=8), "overlap", tensor="t1")
    add("i20", REJECT, placed((0, 8), (100, 100), size=8), "hole", tensor="t1")
    start = len(one(entry('"U8"', "[8]", "[64,72]"), b""))
    add("i25", REJECT, one(entry('"U8"', "[8]", f"[{start},{start + 8}]"), bytes(8)), "start of the file", tensor="t")
    add("i27", REJECT, one(entry('"U8"', f"[{2**61 - 1}]", f"[0,{2**61 - 1}]"), b""), "truncated")
    many = ",".join(f'"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(100_000))
    add("i28", ACCEPT, framed("{" + many + "}", b""))
    add("mlx3409", REJECT, tensors(a=("F32", [1024], bytes(4096)))[:200], "truncated")


def folder(path: Path, index: object = None, **files: bytes) -> Path:
    """A folder with files; their names are given without .safetensors, two underscores are a dash."""
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / (name.replace("__", "-") + ".safetensors")).write_bytes(content)
    if index is not None:
        text = index if isinstance(index, str) else json.dumps(index)
        (path / "model.safetensors.index.json").write_text(text)
    return path


def mapped(**weight_map: str) -> dict[str, object]:
    """An index."""
    return {"metadata": {}, "weight_map": weight_map}


A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
FOLDERS: list[tuple[str, str, Callable[[Path], Path], tuple[str, ...], str]] = []


def case(
    name: str, verdict: str, *says: str, tensor: str = ""
) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Remember a case that is a folder: the function makes it."""

    def keep(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        FOLDERS.append((name, verdict, make, says, tensor))
        return make

    return keep


def add_index(name: str, verdict: str, index: object, *says: str, tensor: str = "") -> None:
    """A folder whose only oddity is its index."""
    case(name, verdict, *says, tensor=tensor)(lambda p: folder(p, index, model=simple("a")))


def add_indexes() -> None:
    """6.5 Index."""
    good = "model.safetensors"
    add_index("x01", REJECT, {"metadata": {}}, "weight_map is missing")
    add_index("x01b", REJECT, {"weight_map": {}}, "weight_map is empty")
    add_index("x02", REJECT, {"weight_map": []}, "expected an object for weight_map")
    for i, value in enumerate((1, None, [good])):
        add_index(f"x03{'abc'[i]}", REJECT, {"weight_map": {"a": value}}, "expected a string", tensor="a")
    for name, value in (
        ("x04", "../x.safetensors"),
        ("x05", "/etc/passwd"),
        ("x06", "a/../../b"),
        ("x07", "..\\x"),
        ("x08", "C:\\x"),
        ("x08b", "C:x.safetensors"),
        ("x09b", "."),
        ("x09c", ".."),
        ("x10b", "a\0b.safetensors"),
        ("x26", "sub/model.safetensors"),
        ("x27", "model.bin"),
    ):
        add_index(name, REJECT, mapped(a=value), tensor="a")
    add_index("x09", REJECT, mapped(a=""), "is empty", tensor="a")
    add_index("x10", REJECT, {"weight_map": {"a\0b": good}}, "NUL")
    add_index("x13", REJECT, '{"weight_map":{"a":"model.safetensors","a":"other.safetensors"}}', "twice", tensor="a")
    add_index("x14", REJECT, mapped(a=good, b=good), "does not have it", good, tensor="b")
    for i, size in enumerate((9, -1, "8", 1e30, 8.0)):
        add_index(f"x18{'abcde'[i]}", WARN, {"metadata": {"total_size": size}, "weight_map": {"a": good}}, "total_size")
    add_index(
        "x18ok", ACCEPT, {"metadata": {"total_size": 8, "total_parameters": 2}, "weight_map": {"a": good}, "dtype": "x"}
    )
    add_index("x19", REJECT, [], "a list")
    add_index("x21", REJECT, "\ufeff" + json.dumps(mapped(a=good)), "0xef")
    add_index("x28", REJECT, '{"weight_map":{"a":"model.safetensors"}}x', "'x'")

    @case("x15", WARN, "not listed in the index", "(b)")
    def _(p: Path) -> Path:
        return folder(p, mapped(a=good), model=simple("a", "b"))

    @case("x16", WARN, "for another file", "(a)")
    def _(p: Path) -> Path:
        return folder(
            p, mapped(a=A, b=B), model__00001__of__00002=simple("a"), model__00002__of__00002=simple("a", "b")
        )

    @case("x16b", REJECT, "occurs in", A, B, tensor="a")
    def _(p: Path) -> Path:
        return folder(p, model__00001__of__00002=simple("a"), model__00002__of__00002=simple("a", "b"))

    @case("x17", REJECT, "2 of the 3 files", A, B)
    def _(p: Path) -> Path:
        return folder(p, mapped(a=A, b=B, c=good), model=simple("c"))

    @case("x20", REJECT, "100,000,000")
    def _(p: Path) -> Path:
        folder(p, model=simple("a"))
        with (p / "model.safetensors.index.json").open("wb") as f:
            f.truncate(200_000_000)
        return p


def add_special_files() -> None:
    """6.5 Files that are not files."""

    def with_index(p: Path) -> Path:
        return folder(p, mapped(a="model.safetensors"))

    @case("x11a", REJECT, "a folder")
    def _(p: Path) -> Path:
        (with_index(p) / "model.safetensors").mkdir()
        return p

    @case("x11b", REJECT, "a pipe")
    def _(p: Path) -> Path:
        os.mkfifo(with_index(p) / "model.safetensors")
        return p

    @case("x11c", REJECT, "a character device")
    def _(p: Path) -> Path:
        (with_index(p) / "model.safetensors").symlink_to("/dev/zero")
        return p

    @case("x11d", REJECT, "a socket")
    def _(p: Path) -> Path:
        with_index(p)
        here = os.getcwd()
        os.chdir(p)  # names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.bind("model.safetensors")
        finally:
            os.chdir(here)
        return p

    @case("x11e", REJECT, "a pipe")
    def _(p: Path) -> Path:
        folder(p)
        os.mkfifo(p / "model.safetensors")
        return p

    @case("x12", REJECT, "symbolic link to a file that does not exist")
    def _(p: Path) -> Path:
        (with_index(p) / "model.safetensors").symlink_to("../blobs/4711")
        return p

    @case("x22", WARN, "differ only in case")
    def _(p: Path) -> Path:
        return folder(p, Layer=simple("a"), layer=simple("b"))

    @case("x23", REJECT, "two names of one file", tensor="a")
    def _(p: Path) -> Path:
        folder(p, model__00001__of__00002=simple("a"))
        (p / B).hardlink_to(p / A)
        return p

    @case("x23b", WARN, "for another file")
    def _(p: Path) -> Path:
        folder(p, mapped(a=A, b=B), model__00001__of__00002=simple("a", "b"))
        (p / B).hardlink_to(p / A)
        return p

    @case("x25", ACCEPT)
    def _(p: Path) -> Path:
        folder(p)
        size = 1 << 33
        with (p / "model.safetensors").open("wb") as f:
            f.write(framed(json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}), b""))
            f.truncate(f.tell() + size)
        return p


def add_folders() -> None:
    """Folders as they are met."""
    four = {f"model-{i:05}-of-00004": simple(f"t{i}") for i in range(1, 5)}
    zero_based = {f"model-{i:05}-of-00002": simple(f"t{i}") for i in range(3)}

    def shards(p: Path, files: dict[str, bytes]) -> Path:
        p.mkdir(parents=True)
        for name, content in files.items():
            (p / f"{name}.safetensors").write_bytes(content)
        return p

    case("y01_shards_without_index", ACCEPT)(lambda p: shards(p, four))
    case("y02_counted_from_zero", ACCEPT)(lambda p: shards(p, zero_based))
    case("y03_two_dashes", ACCEPT)(lambda p: shards(p, {f"model--{i:05}-of-00002": simple(f"t{i}") for i in (1, 2)}))
    case("y04_shard_missing", REJECT, "model-00002-of-00004.safetensors")(
        lambda p: shards(p, {k: v for k, v in four.items() if "00002-" not in k})
    )
    case("y05_two_sets", REJECT, "two numbered sets")(
        lambda p: shards(p, four | {f"model-{i:05}-of-00002": simple(f"t{i}") for i in (1, 2)})
    )
    case("y06_single_and_equal_shards", WARN, "not read: model.safetensors")(
        lambda p: shards(p, four | {"model": simple("t1", "t2", "t3", "t4")})
    )
    case("y07_single_and_other_shards", REJECT, "hold different tensors")(
        lambda p: shards(p, four | {"model": simple("t1")})
    )
    case("y08_consolidated_beside", WARN, "not read: consolidated.safetensors")(
        lambda p: shards(p, {"model": simple("a"), "consolidated": simple("z")})
    )
    case("y09_consolidated_alone", ACCEPT)(lambda p: shards(p, {"consolidated": simple("z")}))
    case("y10_adapter", REJECT, "LoRA")(lambda p: shards(p, {"adapter_model": simple("lora_A")}))
    case("y11_adapter_beside", WARN, "not read: adapter_model.safetensors")(
        lambda p: shards(p, {"model": simple("a"), "adapter_model": simple("lora_A")})
    )
    case("y12_variant_alone", WARN, "fp16")(lambda p: shards(p, {"model.fp16": simple("a")}))
    case("y13_variant_beside", WARN, "not read: model.fp16")(
        lambda p: shards(p, {"model": simple("a"), "model.fp16": simple("a")})
    )
    case("y14_variant_shards", WARN, "fp16")(
        lambda p: shards(p, {f"model.fp16-{i:05}-of-00002": simple(f"t{i}") for i in (1, 2)})
    )
    case("y15_two_variants", REJECT, "several variants")(
        lambda p: shards(p, {"model.fp16": simple("a"), "model.bf16": simple("a")})
    )
    case("y16_training_state", REJECT, "training run")(
        lambda p: shards(p, {"optimizer": simple("a"), "rng_state_0": simple("b")})
    )
    case("y17_layer_files", ACCEPT)(lambda p: shards(p, {f"layers-{i}": simple(f"t{i}") for i in (1, 22, 3)}))
    case("y18_empty_folder", REJECT, "empty folder")(lambda p: shards(p, {}))

    def only(name: str, content: bytes) -> Callable[[Path], Path]:
        def make(p: Path) -> Path:
            p.mkdir(parents=True)
            (p / name).write_bytes(content)
            return p

        return make

    case("y19_pickle_folder", REJECT, "PyTorch", "pytorch_model.bin")(only("pytorch_model.bin", b"PK\3\4"))
    case("y20_gguf_folder", REJECT, "GGUF")(only("model-q4.gguf", b"GGUF"))
    case("y21_unfinished", REJECT, "unfinished download")(only("model.safetensors.incomplete", bytes(64)))
    case("y22_lfs_folder", REJECT, "this folder holds Git LFS pointers", "model.safetensors", "git lfs pull")(
        only("model.safetensors", FILES["j01"][1])
    )
    case("y23_no_checkpoint", REJECT, "no *.safetensors")(only("README.md", b"#"))

    @case("y24_subfolder", REJECT, "original")
    def _(p: Path) -> Path:
        shards(p / "original", {"model": simple("a")})
        return p

    @case("y25_config_is_broken", WARN, "config.json is ignored")
    def _(p: Path) -> Path:
        shards(p, {"model": simple("a")})
        (p / "config.json").write_text('{"model_type": "x",}')
        return p

    @case("y26_paddle", WARN, "PaddlePaddle")
    def _(p: Path) -> Path:
        header = {"__metadata__": {"format": "pd"}, "t": {"dtype": "U16", "shape": [4], "data_offsets": [0, 8]}}
        return shards(p, {"model": framed(json.dumps(header))})

    @case("y27_index_of_bin_files", REJECT, "missing")
    def _(p: Path) -> Path:
        folder(p, mapped(a=A, b=B))
        (p / "pytorch_model.bin").write_bytes(b"PK\3\4")
        return p

    @case("y28_links_into_a_cache", ACCEPT)
    def _(p: Path) -> Path:
        (p / "blobs").mkdir(parents=True)
        (p / "snapshot").mkdir()
        (p / "blobs" / "4711").write_bytes(simple("a"))
        (p / "snapshot" / "model.safetensors").symlink_to("../blobs/4711")
        return p / "snapshot"

    case("y29_codes_without_scales", WARN, "without scales")(
        lambda p: shards(p, {"model": tensors(mlp__qweight=("I32", [2], DATA))})
    )
    case("y30_absent", REJECT, "no such file")(lambda p: p / "absent")


add_framing()
add_json()
add_shapes()
add_offsets()
add_indexes()
add_special_files()
add_folders()


def make_all(root: Path) -> list[Case]:
    """Write every checkpoint below `root`, in a folder of its own."""
    cases = []
    for name, (verdict, content, says, tensor) in FILES.items():
        path = root / name / "model.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        cases.append(Case(name, verdict, path, says, tensor))
    for name, verdict, make, says, tensor in FOLDERS:
        cases.append(Case(name, verdict, make(root / name), says, tensor))
    return cases


def random_damage(seed: int, count: int) -> list[bytes]:
    """Sound files with a few bytes changed, cut or doubled: for the oracle and for fuzzing."""
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        raw = bytearray(simple("a", "b.c", "layer.0.weight"))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(raw))
            kind = rng.randrange(4)
            if kind == 0:
                raw[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                raw[at] = rng.choice(b'{}[]",:0129-. \\ueE')
            elif kind == 2:
                del raw[at : at + rng.randint(1, 9)]
            else:
                raw[at:at] = raw[at : at + rng.randint(1, 9)]
        out.append(bytes(raw))
    return out


if __name__ == "__main__":
    for made in make_all(Path(sys.argv[1])):
        print(made.verdict, made.path)

# SPDX-License-Identifier: MIT
"""Reading manifest.json (docs/formats/manifest.md) and proving it sound.

The manifest is a file that somebody may have sent: everything that is used later is checked here, once, and
nothing is allocated by a size it declares unless the files really hold that many bytes (files of the source, which
several arrays may share: for each array anew). The rest of the package
trusts what this module returns.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, printable

MANIFEST_NAME = "manifest.json"
VERSION = 1
LAYOUTS = ("flax-msgpack", "safetensors", "orbax", "jax-pytree")

_MANIFEST_MAX_BYTES = 1 << 30  # 46 MB describe 100,000 arrays
_STEP = re.compile("[0-9]{1,19}")  # as --step and targets name folders
_INTEGER_END = 1 << 63
_RANK_MAX = 64
_DEPTH_MAX = 500  # JAX's own walk over a tree ends before 1000 levels
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_FILE_NAME = re.compile(r"[^/\\:\x00-\x1f\x7f]+")
_PATH_PART = re.compile(r"[^/\\\x00]+")  # of a file in a folder of the checkpoint, which may be called as a tensor

_NUMPY_NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_ML_NAMES = (
    *("bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"),
    *("int1", "uint1", "int2", "uint2", "int4", "uint4"),
)
# Only these names are ever looked up: numpy.dtype() of a stranger's text could be anything, 'object' included.
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in _NUMPY_NAMES}
_DTYPES |= {name: np.dtype(getattr(ml_dtypes, name)) for name in _ML_NAMES if hasattr(ml_dtypes, name)}


# What the layout safetensors holds without gaps, whatever the last axis: bits of a code.
_PACKED_BITS = {"float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6}


class _UnsoundError(Exception):
    """A fault whose place the caller knows."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a layout's files and arrays may be."""

    packed: bool
    """Codes of four and six bits lie without gaps."""
    folders: bool
    """Files may be in folders, or the source's own."""
    chunks: bool
    keys: int
    """A path has at most as many."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file of the checkpoint, and which file it was when the manifest was read."""

    name: str
    path: Path
    size: int
    """Bytes."""
    identity: tuple[int, int, int, int]
    """Device, inode, size, time of change: a file that differs later was replaced or rewritten."""
    linked: bool = False
    """A file of the source itself: several arrays may mean the same bytes."""

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for reading; FormatError if it is no longer the same file."""
        with open_regular(self.path) as (fd, status):
            if _identity(status) != self.identity:
                raise FormatError(f"{self.path}: the file changed since the manifest was read")
            yield fd


@dataclass(frozen=True, slots=True)
class Extent:
    """One contiguous part of an array: `length` bytes at `offset` of a file are its bytes from `first` on."""

    first: int
    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Grid:
    """How an array lies in chunks of one shape, each in an extent of its own, numbered row-major over the grid.

    Chunks that reach beyond the array are whole in the file all the same.
    """

    chunk: tuple[int, ...]
    """The shape of one."""
    order: tuple[int, ...]
    """Its axes, from the slowest to the fastest in its bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An array as it lies in the files."""

    path: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    view: np.dtype[Any] | None
    """With --compat: what the uint8 elements stand for."""
    extents: tuple[Extent, ...]
    """In the order of bytes, together exactly the array; with a grid, of its chunks."""
    grid: Grid | None = None
    """None: the extents are flat ranges of the array."""
    codes: np.dtype[Any] | None = None
    """Of packed four- and six-bit codes: their dtype. `dtype` is then uint8, `shape` that of the bytes."""
    codes_shape: tuple[int, ...] = ()
    """The array's shape, counted in codes."""
    lists: tuple[int, ...] = ()
    """Which keys of the path are indices of lists, because a map says so."""
    leaf: int | None = None
    """Of a tree that is one ordered dict: the place in it."""

    @property
    def name(self) -> str:
        """The keys joined by '/'."""
        return "/".join(self.path)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was found sound."""

    folder: Path
    document: dict[str, Any]
    """Everything in it but the arrays: options, source, totals, casts, files."""
    files: tuple[DataFile, ...]
    entries: tuple[Entry, ...]
    """In the order of their data."""


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor of a regular file and its status. Links are followed: caches of models consist of them."""
    # Non-blocking, because opening a FIFO would wait for a writer for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{path}: not a regular file")
        yield fd, status
    finally:
        os.close(fd)


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read and check `folder`/manifest.json, or the last step's, and look at every file that it names.

    Raises:
        FileNotFoundError: there is no folder or no manifest.
        FormatError: the manifest or a file is not sound; the message names it and the array.
    """
    directory = _last_step(Path(folder))
    path = directory / MANIFEST_NAME
    document = _parse(path, _read_text(directory, path))
    try:
        rules = _check_head(document)
        files = tuple(_data_file(directory, item, rules) for item in _typed(document, "files", list))
        rows = _typed(document, "arrays", list)
    except _UnsoundError as fault:
        raise FormatError(f"{path}: {fault}") from None
    entries = tuple(_named_entry(path, number, row, rules, files) for number, row in enumerate(rows))
    _check_paths(path, entries)
    _check_order(path, entries)
    _check_overlaps(path, files, entries)
    del document["arrays"]
    return Manifest(directory, document, files, entries)


def _last_step(folder: Path) -> Path:
    """The folder itself if it has a manifest; else the highest numbered one in it that has; else the folder."""
    if (folder / MANIFEST_NAME).exists() or not folder.is_dir():
        return folder
    names = [name for name in os.listdir(folder) if _STEP.fullmatch(name) and (folder / name / MANIFEST_NAME).exists()]
    return folder / max(names, key=int) if names else folder


def _read_text(directory: Path, path: Path) -> bytes:
    if not path.exists() and directory.is_dir():
        raise FileNotFoundError(f"{directory}: no {MANIFEST_NAME}: not an output of TensorPort, or not complete")
    with open_regular(path) as (fd, status):
        if status.st_size > _MANIFEST_MAX_BYTES:
            raise FormatError(f"{path}: {status.st_size} bytes; at most {_MANIFEST_MAX_BYTES} are read")
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(_MANIFEST_MAX_BYTES + 1)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (
        ValueError,
        RecursionError,
        _UnsoundError,
    ) as fault:  # ValueError: bad UTF-8, bad JSON, integers of 5,000 digits
        raise FormatError(f"{path}: not sound JSON: {str(fault) or type(fault).__name__}") from None
    if not isinstance(document, dict):
        raise FormatError(f"{path}: not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _UnsoundError("an object has a key twice: " + ", ".join(printable(key) for key, _ in pairs[:10]))
    return result


def _no_constant(text: str) -> NoReturn:
    raise _UnsoundError(f"{text} is not JSON")


def _check_head(document: dict[str, Any]) -> _Rules:
    """What holds for the rest; raises if this is no manifest that this version can read."""
    if document.get("format") != "tensorport":
        raise _UnsoundError("not a manifest of TensorPort ('format' is not 'tensorport')")
    version = _integer(document.get("version"), "version")
    if not 1 <= version <= VERSION:
        raise _UnsoundError(f"version {version}, this package reads up to {VERSION}: install a newer tensorport")
    layout = _typed(document, "layout", str)
    if layout not in LAYOUTS:
        raise _UnsoundError(f"layout {printable(layout)} is unknown to this version; known: {', '.join(LAYOUTS)}")
    tree = _typed(document, "tree", str)
    if tree not in ("flat", "nested", "lists"):
        raise _UnsoundError(f"tree is {printable(tree)}, neither flat nor nested nor lists")
    store = layout in ("orbax", "jax-pytree")
    keys = 1 + _wrapping(document) if tree == "flat" and not _is_mapped(document) else _DEPTH_MAX
    return _Rules(packed=layout == "safetensors", folders=store, chunks=store, keys=keys)


def _is_mapped(document: dict[str, Any]) -> bool:
    """Whether a map, not the names of the source, says what the tree is like."""
    options = document.get("options")
    return isinstance(options, dict) and "map" in options


def _wrapping(document: dict[str, Any]) -> int:
    """Number of keys that --wrap put around the tree."""
    options = document.get("options")
    wrap = options.get("wrap") if isinstance(options, dict) else None
    return len(wrap.split("/")) if isinstance(wrap, str) else 0


def _typed(row: dict[str, Any], key: str, kind: type) -> Any:
    value = row.get(key)
    if type(value) is not kind:
        raise _UnsoundError(f"{key!r} is missing" if key not in row else f"{key!r} is not a {kind.__name__}")
    return value


def _integer(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < _INTEGER_END:  # a bool is no number here
        raise _UnsoundError(f"{what} is not an integer from 0 to 2^63 - 1")
    return value


def _data_file(directory: Path, item: object, rules: _Rules) -> DataFile:
    if type(item) is not dict:
        raise _UnsoundError("an item of 'files' is not an object")
    name = _typed(item, "name", str)
    size = _integer(item.get("size"), f"size of file {printable(name)}")
    if not _is_file_name(name, rules):
        raise _UnsoundError(f"file name {printable(name)} is not the plain name of a file in this folder")
    if "source" in item:
        _integer(item["source"], f"source of file {printable(name)}")
        if not rules.folders:
            raise _UnsoundError(f"file {printable(name)} is the source's own, which this layout does not have")
    path = directory / name
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _UnsoundError(f"file {printable(name)} is missing") from None
    except OSError as fault:
        raise _UnsoundError(f"file {printable(name)}: {fault.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise _UnsoundError(f"file {printable(name)} is not a regular file")
    if status.st_size != size:
        kind = "truncated" if status.st_size < size else "enlarged"
        raise _UnsoundError(f"file {printable(name)} has {status.st_size} bytes, the manifest says {size} ({kind})")
    return DataFile(name, path, size, _identity(status), "source" in item)


def _is_file_name(name: str, rules: _Rules) -> bool:
    """Whether it leads to a file in the checkpoint's folder, and in no other."""
    parts, allowed = (name.split("/"), _PATH_PART) if rules.folders else ([name], _FILE_NAME)
    return _encodable(name) and all(allowed.fullmatch(part) and part not in (".", "..") for part in parts)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _encodable(text: str) -> bool:
    """Whether it is text at all: JSON's escapes can spell lone surrogates."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _named_entry(path: Path, number: int, row: object, rules: _Rules, files: tuple[DataFile, ...]) -> Entry:
    try:
        entry = _entry(row, rules, files)
        if isinstance(row, dict) and ("lists" in row or "leaf" in row):
            lists = _lists(row, entry.path) if "lists" in row else ()
            leaf = _integer(row["leaf"], "'leaf'") if "leaf" in row else None
            entry = replace(entry, lists=lists, leaf=leaf)
        return entry
    except _UnsoundError as fault:
        keys = row.get("path") if isinstance(row, dict) else None
        name = printable("/".join(map(str, keys))) if isinstance(keys, list) else f"number {number}"
        raise FormatError(f"{path}: array {name}: {fault}") from None


def _entry(row: object, rules: _Rules, files: tuple[DataFile, ...]) -> Entry:
    if type(row) is not dict:
        raise _UnsoundError("not an object")
    keys = _path(_typed(row, "path", list), rules.keys)
    dtype = _dtype(_typed(row, "dtype", str))
    shape = tuple([_integer(size, "a size in 'shape'") for size in _typed(row, "shape", list)])
    if len(shape) > _RANK_MAX:
        raise _UnsoundError(f"{len(shape)} axes, at most {_RANK_MAX} are possible")
    # Sizes of 0 do not excuse the others: NumPy multiplies what is left.
    if prod([size for size in shape if size]) * dtype.itemsize >= _INTEGER_END:
        raise _UnsoundError(f"shape {list(shape)} needs 2^63 bytes or more")
    if rules.packed and dtype.name in _PACKED_BITS:
        return _packed_entry(row, keys, dtype, shape, files)
    view = _view(row, dtype, shape) if "view" in row else None
    if "chunk" in row or "order" in row:
        if not rules.chunks:
            raise _UnsoundError("chunks, which this layout does not have")
        return _chunked_entry(row, keys, dtype, shape, view, files)
    if rules.chunks and not prod(shape) and row.get("extents") == []:
        return Entry(keys, dtype, shape, view, ())  # zarr has no chunk of an empty array
    return Entry(keys, dtype, shape, view, _extents(row, prod(shape), dtype.itemsize, files))


def _packed_entry(
    row: dict[str, Any],
    keys: tuple[str, ...],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    files: tuple[DataFile, ...],
) -> Entry:
    """Codes that follow each other bit by bit: two in one byte, or four in three."""
    count, bits = prod(shape), _PACKED_BITS[dtype.name]
    if count * bits % 8:
        raise _UnsoundError(f"{count} codes of {bits} bits do not fill whole bytes")
    if "view" in row:
        raise _UnsoundError(f"a view of {dtype} elements; only uint8 can stand for 1-byte elements")
    nbytes = count * bits // 8
    # Where a row ends within a byte the bytes have but one axis.
    stored = (*shape[:-1], shape[-1] * bits // 8) if shape[-1] * bits % 8 == 0 else (nbytes,)
    extents = _extents(row, nbytes, 1, files)
    return Entry(keys, _DTYPES["uint8"], stored, None, extents, codes=dtype, codes_shape=shape)


def _chunked_entry(
    row: dict[str, Any],
    keys: tuple[str, ...],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    view: np.dtype[Any] | None,
    files: tuple[DataFile, ...],
) -> Entry:
    grid = _grid(row, len(shape))
    extents = _typed(row, "extents", list)
    counts = [-(-size // part) for size, part in zip(shape, grid.chunk, strict=True)]
    if len(extents) != prod(counts):
        raise _UnsoundError(f"{len(extents)} extents, one for each of {prod(counts)} chunks is wanted")
    nbytes = prod(grid.chunk) * dtype.itemsize
    places = [_chunk_extent(item, nbytes, files) for item in extents]
    if _is_flat(grid, shape):
        return Entry(keys, dtype, shape, view, _flat_extents(places, grid, shape, dtype.itemsize))
    return Entry(keys, dtype, shape, view, tuple(places), grid)


def _grid(row: dict[str, Any], rank: int) -> Grid:
    chunk = tuple([_integer(size, "a size in 'chunk'") for size in _typed(row, "chunk", list)])
    if len(chunk) != rank or not all(chunk):
        raise _UnsoundError(f"'chunk' {list(chunk)} is not {rank} sizes above 0")
    if "order" not in row:
        return Grid(chunk, tuple(range(rank)))
    order = tuple([_integer(axis, "an axis in 'order'") for axis in _typed(row, "order", list)])
    if sorted(order) != list(range(rank)):
        raise _UnsoundError(f"'order' {list(order)} does not list each of {rank} axes once")
    return Grid(chunk, order)


def _chunk_extent(item: object, nbytes: int, files: tuple[DataFile, ...]) -> Extent:
    if type(item) is not dict:
        raise _UnsoundError("an extent is not an object")
    if any(key in item for key in ("box", "order", "elements")):
        raise _UnsoundError("an extent with a box, an axis order or elements, where chunks say it all")
    return _extent(item, 0, nbytes, files)


def _is_flat(grid: Grid, shape: tuple[int, ...]) -> bool:
    """Whether each chunk is a contiguous range of the array: rows, whole in all axes but the one that is cut."""
    long = [axis for axis in grid.order if grid.chunk[axis] > 1]  # an axis of one element can stand anywhere
    cut = min(long, default=len(shape))
    return long == sorted(long) and grid.chunk[cut + 1 :] == shape[cut + 1 :]


def _flat_extents(places: list[Extent], grid: Grid, shape: tuple[int, ...], itemsize: int) -> tuple[Extent, ...]:
    """Chunks that are flat ranges as such, without what reaches beyond the array, neighbours in a file joined."""
    cut = next((axis for axis, part in enumerate(grid.chunk) if part > 1), len(shape))
    size, part = (shape[cut], grid.chunk[cut]) if cut < len(shape) else (1, 1)
    count, row_bytes = -(-size // part), prod(shape[cut + 1 :]) * itemsize
    result: list[Extent] = []
    first = 0
    for number, place in enumerate(places):
        length = min(part, size - number % count * part) * row_bytes
        last = result[-1] if result else None
        if last and (last.file, last.offset + last.length) == (place.file, place.offset):
            result[-1] = Extent(last.first, last.file, last.offset, last.length + length)
        else:
            result.append(Extent(first, place.file, place.offset, length))
        first += length
    return tuple(result)


def _path(keys: list[Any], most: int) -> tuple[str, ...]:
    if not keys or not all(type(key) is str and _encodable(key) for key in keys):
        raise _UnsoundError("'path' is not a list of one or more texts")
    if len(keys) > _DEPTH_MAX:
        raise _UnsoundError(f"{len(keys)} keys in the path, at most {_DEPTH_MAX} are possible")
    if len(keys) > most:
        raise _UnsoundError(f"{len(keys)} keys in the path of a flat tree")
    return tuple(keys)


def _lists(row: dict[str, Any], keys: tuple[str, ...]) -> tuple[int, ...]:
    levels = tuple([_integer(level, "a level in 'lists'") for level in _typed(row, "lists", list)])
    for level in levels:
        if level >= len(keys) or not _INDEX.fullmatch(keys[level]):
            raise _UnsoundError(f"'lists' says that key {level} is the index of a list")
    return levels


def _dtype(name: str) -> np.dtype[Any]:
    dtype = _DTYPES.get(name)
    if dtype is None:
        newer = "; it needs a newer ml_dtypes" if name in _ML_NAMES else ""
        raise _UnsoundError(f"unknown dtype {printable(name)}{newer}")
    return dtype


def _view(row: dict[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.dtype[Any]:
    view = _dtype(_typed(row, "view", str))
    if view == _DTYPES.get("float4_e2m1fn") and not shape:
        raise _UnsoundError("a scalar cannot hold two float4 codes a byte")
    if dtype != np.uint8 or view.itemsize != 1:
        raise _UnsoundError(f"a view as {view} of {dtype} elements; only uint8 can stand for 1-byte elements")
    return view


def _extents(row: dict[str, Any], count: int, itemsize: int, files: tuple[DataFile, ...]) -> tuple[Extent, ...]:
    """The array's extents, which must tile elements 0 to `count` in order and lie inside their files."""
    result: list[Extent] = []
    done = 0
    for item in _typed(row, "extents", list):
        if type(item) is not dict:
            raise _UnsoundError("an extent is not an object")
        if "box" in item or "order" in item:
            raise _UnsoundError("an extent with a box or an axis order, which this layout does not have")
        first, end = _elements(item, count)
        if first != done or (first == end and count):
            raise _UnsoundError(f"an extent holds elements {first} to {end} where {done} should follow")
        result.append(_extent(item, first * itemsize, (end - first) * itemsize, files))
        done = end
    if done != count or not result:
        raise _UnsoundError(f"its extents hold {done} of {count} elements" if result else "no extents")
    return tuple(result)


def _elements(item: dict[str, Any], count: int) -> tuple[int, int]:
    if "elements" not in item:
        return 0, count
    elements = item["elements"]
    if type(elements) is not list or len(elements) != 2:
        raise _UnsoundError("'elements' is not a pair")
    first, end = _integer(elements[0], "'elements'"), _integer(elements[1], "'elements'")
    if not first <= end <= count:
        raise _UnsoundError(f"elements {first} to {end} of {count}")
    return first, end


def _extent(item: dict[str, Any], first: int, needed: int, files: tuple[DataFile, ...]) -> Extent:
    number = _integer(item.get("file"), "an extent's 'file'")
    offset = _integer(item.get("offset"), "an extent's 'offset'")
    length = _integer(item.get("length"), "an extent's 'length'")
    if number >= len(files):
        raise _UnsoundError(f"an extent in file {number}; there are {len(files)} files")
    if length != needed:
        raise _UnsoundError(f"an extent of {length} bytes, its elements need {needed}")
    if offset + length > files[number].size:
        raise _UnsoundError(
            f"bytes {offset} to {offset + length} lie beyond the end of {printable(files[number].name)} "
            f"({files[number].size} bytes)"
        )
    return Extent(first, number, offset, length)


def _check_paths(path: Path, entries: tuple[Entry, ...]) -> None:
    """No path twice, and none that goes on below an array."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    for upper, lower in pairwise(ordered):
        # In sorted order whatever begins with a path follows it directly, so looking at neighbours is enough.
        if lower.path[: len(upper.path)] == upper.path:
            what = "listed twice" if lower.path == upper.path else f"{printable(upper.name)} is an array itself"
            raise FormatError(f"{path}: array {printable(lower.name)}: {what}")


def _check_order(path: Path, entries: tuple[Entry, ...]) -> None:
    """All arrays or none have a place in an ordered dict, each one of its own, under a single key."""
    places = [entry.leaf for entry in entries if entry.leaf is not None]
    if places and sorted(places) != list(range(len(entries))):
        raise FormatError(f"{path}: 'leaf': {len(places)} places that are not 0 to {len(entries) - 1}")
    if places and any(len(entry.path) != 1 for entry in entries):
        raise FormatError(f"{path}: 'leaf': an ordered dict of paths with several keys")


def _check_overlaps(path: Path, files: tuple[DataFile, ...], entries: tuple[Entry, ...]) -> None:
    """No byte of our own files belongs to two arrays: together they are never larger than the files."""
    owners: list[int] = []
    places: list[tuple[int, int, int]] = []
    for number, entry in enumerate(entries):
        for extent in entry.extents:
            if extent.length and not files[extent.file].linked:
                owners.append(number)
                places.append((extent.file, extent.offset, extent.offset + extent.length))
    if not places:
        return
    table: NDArray[np.int64] = np.array(places, np.int64)
    order = np.lexsort((table[:, 1], table[:, 0]))
    table = table[order]
    bad = np.flatnonzero((table[1:, 0] == table[:-1, 0]) & (table[1:, 1] < table[:-1, 2]))
    if bad.size:
        upper, lower = (printable(entries[owners[order[bad[0] + i]]].name) for i in (1, 0))
        name = printable(files[table[bad[0], 0]].name)
        raise FormatError(f"{path}: array {upper}: its bytes in {name} overlap those of {lower}")

# SPDX-License-Identifier: MIT
"""Bytes from files into 64-byte-aligned arrays: whole arrays, and boxes of them without reading the rest.

jax.device_put on a CPU takes over a NumPy array that begins at a multiple of 64 bytes; any other it copies.
MessagePack puts payloads anywhere, so each array is read into a buffer of its own that begins at such a place.
An array in chunks (Orbax) is gathered chunk by chunk, each as if it were an array.

Whatever is wanted becomes a list of pieces, none above 8 MiB, which a few threads read: os.preadv
releases the interpreter's lock, and with one thread the kernel's copy would be what everything waits for.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .errors import FormatError
from .manifest import DataFile, Entry, Grid

ALIGNMENT = 64
_PIECE_BYTES = 8 << 20
_WINDOW_BYTES = 4 << 20  # read at once and thinned out in memory
_GAP_BYTES = 32 << 10  # skipping fewer bytes than this costs more than reading them
_PARALLEL_BYTES = 1 << 20  # below it, starting threads takes longer than reading
_UNITS = {size: np.dtype(f"u{size}") for size in (2, 4, 8)}  # what elements of so many bytes are moved as

Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class _Piece:
    """Bytes of an array from `first` on, and where they go.

    `target` is contiguous, or `strides` tells how its elements lie in the bytes that are read.
    """

    entry: Entry
    first: int
    target: Bytes
    strides: tuple[int, ...] | None = None


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised C-ordered array that begins at a multiple of 64 bytes."""
    nbytes = prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + ALIGNMENT - 1, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)


class Reader:
    """Reads arrays of one checkpoint. Any number of threads may use it at once."""

    def __init__(self, files: Sequence[DataFile], threads: int | None, use_mmap: bool) -> None:
        """`threads` read at once, None: one a CPU, at most 8."""
        self._files = files
        self._threads = max(1, threads or min(8, _cpu_count()))
        self._use_mmap = use_mmap

    def read(self, entries: Sequence[Entry]) -> list[NDArray[Any]]:
        """Whole arrays, each in a buffer of its own, or mapped read-only where that was asked for and is possible."""
        arrays: list[NDArray[Any]] = []
        pieces: list[_Piece] = []
        for entry in entries:
            if self._use_mmap and _mappable(entry):
                arrays.append(self._map(entry))
                continue
            array = empty_aligned(entry.shape, entry.dtype)
            arrays.append(array)
            if array.size and entry.grid:
                pieces += _chunk_pieces(entry, entry.grid, [range(size) for size in entry.shape], _with_bytes(array))
            elif array.size:
                pieces += _cut(_Piece(entry, 0, array.reshape(-1).view(np.uint8)))
        self._run(pieces)
        return arrays

    def read_box(self, entry: Entry, box: Sequence[range]) -> NDArray[Any]:
        """The elements whose index along each axis lies in that axis's range (steps above 0), and little else."""
        out = empty_aligned([len(indices) for indices in box], entry.dtype)
        if out.size and entry.grid:
            self._run(list(_chunk_pieces(entry, entry.grid, box, _with_bytes(out))))
        elif out.size:
            self._run(_Gather(entry, [*box, range(entry.dtype.itemsize)]).pieces(_with_bytes(out)))
        return out

    def _map(self, entry: Entry) -> NDArray[Any]:
        extent = entry.extents[0]
        page = extent.offset - extent.offset % mmap.ALLOCATIONGRANULARITY
        with self._files[extent.file].opened() as fd:
            view = mmap.mmap(fd, extent.offset + extent.length - page, access=mmap.ACCESS_READ, offset=page)
        return np.frombuffer(view, entry.dtype, prod(entry.shape), extent.offset - page).reshape(entry.shape)

    def _run(self, pieces: list[_Piece]) -> None:
        """Read all pieces. The first error ends the rest."""
        queue = deque(pieces)
        threads = self._threads if sum(piece.target.size for piece in pieces) > _PARALLEL_BYTES else 1
        if threads == 1 or len(pieces) == 1:
            self._drain(queue)
            return
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(self._drain, queue) for _ in range(threads)]:
                future.result()

    def _drain(self, queue: deque[_Piece]) -> None:
        """Take pieces from the queue until it is empty."""
        with _Hands(self._files) as hands:
            try:
                while (piece := _take(queue)) is not None:
                    hands.read(piece)
            except BaseException:
                queue.clear()
                raise


class _Hands:
    """What one thread holds: the file it read last, and a buffer for bytes to be thinned out."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files
        self._stack = ExitStack()
        self._current = -1
        self._fd = -1
        self._scratch: Bytes | None = None

    def __enter__(self) -> _Hands:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, piece: _Piece) -> None:
        target, strides = piece.target, piece.strides
        if strides is None:
            self._fill(piece.entry, piece.first, target)
            return
        if self._scratch is None:
            self._scratch = np.empty(_WINDOW_BYTES, np.uint8)
        data = self._scratch[: _span(target.shape, strides)]
        self._fill(piece.entry, piece.first, data)
        _copy_elements(target, as_strided(data, target.shape, strides, writeable=False))

    def _fill(self, entry: Entry, first: int, data: Bytes) -> None:
        for number, offset, part in _places(entry, first, data):
            if number != self._current:
                self._stack.close()
                self._fd = self._stack.enter_context(self._files[number].opened())
                self._current = number
            _read_exactly(self._fd, part, offset, self._files[number])


class _Gather:
    """Cuts a box into pieces: long runs are read straight to their place, near ones together with what lies between."""

    def __init__(self, entry: Entry, box: Sequence[range]) -> None:
        shape = (*entry.shape, entry.dtype.itemsize)
        strides = [1, *accumulate(reversed(shape[1:]), int.__mul__)][::-1]
        self._entry = entry
        self._first = [indices.start * stride for indices, stride in zip(box, strides, strict=True)]
        self._steps = [indices.step * stride for indices, stride in zip(box, strides, strict=True)]
        counts = [len(indices) for indices in box]
        # Bytes from the first to the last wanted one, over axes k and following.
        reach = [(count - 1) * step for count, step in zip(counts, self._steps, strict=True)]
        self._span = [sum(reach[axis:]) + 1 for axis in range(len(reach) + 1)]
        self._wanted = [prod(counts[axis:]) for axis in range(len(counts) + 1)]
        # The longest contiguous run: of the outermost axis from which on nothing is left out.
        self._run = next(self._wanted[k] for k in range(len(counts) + 1) if self._wanted[k] == self._span[k])

    def pieces(self, target: Bytes) -> list[_Piece]:
        return list(self._walk(0, sum(self._first), target))

    def _walk(self, axis: int, first: int, target: Bytes) -> Iterator[_Piece]:
        wanted, span, step = self._wanted[axis], self._span[axis], self._steps[axis]
        if wanted == span and target.flags.c_contiguous:
            yield from _cut(_Piece(self._entry, first, target.reshape(-1)))
            return
        skipped = span - wanted
        rows = _WINDOW_BYTES // step
        if rows and skipped <= _GAP_BYTES * (wanted // self._run):
            for row in range(0, target.shape[0], rows):
                part = target[row : row + rows]
                yield _Piece(self._entry, first + row * step, part, tuple(self._steps[axis:]))
            return
        for row in range(target.shape[0]):
            yield from self._walk(axis + 1, first + row * step, target[row])


def _with_bytes(array: NDArray[Any]) -> Bytes:
    """The same memory with the bytes of an element as one more axis: everything that follows counts in bytes."""
    return array.reshape(-1).view(np.uint8).reshape(*array.shape, array.dtype.itemsize)


def _chunk_pieces(entry: Entry, grid: Grid, box: Sequence[range], target: Bytes) -> Iterator[_Piece]:
    """The pieces of each chunk that `box` touches, the chunk taken for an array whose axes are as its bytes lie."""
    shape = tuple([grid.chunk[axis] for axis in grid.order])
    counts = [-(-size // part) for size, part in zip(entry.shape, grid.chunk, strict=True)]
    steps = [1, *accumulate(reversed(counts[1:]), int.__mul__)][::-1] if counts else []
    touched = [_cells(indices, part) for indices, part in zip(box, grid.chunk, strict=True)]
    for cells in product(*touched):
        number = sum([cell * step for (cell, _, _), step in zip(cells, steps, strict=True)])
        chunk = Entry(entry.path, entry.dtype, shape, None, (entry.extents[number],))
        inner = [cells[axis][1] for axis in grid.order]
        part = target[tuple([where for _, _, where in cells])].transpose(*grid.order, len(shape))
        yield from _Gather(chunk, [*inner, range(entry.dtype.itemsize)]).pieces(part)


def _cells(indices: range, part: int) -> list[tuple[int, range, slice]]:
    """Along one axis: each chunk that holds some of `indices`, which of its own, and where these are in the result."""
    cells = []
    at = 0
    while at < len(indices):
        cell = indices[at] // part
        end = min(len(indices), -(-((cell + 1) * part - indices.start) // indices.step))
        start = cell * part
        cells.append((cell, range(indices[at] - start, indices[end - 1] - start + 1, indices.step), slice(at, end)))
        at = end
    return cells


def _copy_elements(target: Bytes, source: Bytes) -> None:
    """As target[...] = source; the last axis holds bytes of one element where the one before it does not lie so."""
    unit = _UNITS.get(target.shape[-1])
    if unit is not None and target.strides[-1] == source.strides[-1] == 1:
        target.view(unit)[...] = source.view(unit)
    else:
        target[...] = source


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mappable(entry: Entry) -> bool:
    if entry.grid or len(entry.extents) != 1:
        return False
    extent = entry.extents[0]
    return extent.length > 0 and extent.offset % ALIGNMENT == 0


def _take(queue: deque[_Piece]) -> _Piece | None:
    try:
        return queue.popleft()
    except IndexError:
        return None


def _cut(piece: _Piece) -> Iterator[_Piece]:
    for start in range(0, piece.target.size, _PIECE_BYTES):
        yield _Piece(piece.entry, piece.first + start, piece.target[start : start + _PIECE_BYTES])


def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Bytes from the first to the last of the elements that lie so."""
    return 1 + sum([(count - 1) * stride for count, stride in zip(shape, strides, strict=True)])


def _places(entry: Entry, first: int, data: Bytes) -> Iterator[tuple[int, int, Bytes]]:
    """Where the bytes of `entry` from `first` on lie: file, offset, and the part of `data` they belong into."""
    extents = entry.extents
    number = bisect_right(extents, first, key=lambda extent: extent.first) - 1 if len(extents) > 1 else 0
    while data.size:
        extent = extents[number]
        skip = first - extent.first
        part = data[: extent.length - skip]
        yield extent.file, extent.offset + skip, part
        first += part.size
        data = data[part.size :]
        number += 1


def _read_exactly(fd: int, data: Bytes, offset: int, file: DataFile) -> None:
    view = data.data
    while view:
        try:
            done = os.preadv(fd, [view], offset)
        except OSError as fault:
            raise OSError(fault.errno, fault.strerror, str(file.path)) from fault
        if not done:
            raise FormatError(f"{file.path}: ends at byte {offset}, though it had {file.size} bytes before")
        view = view[done:]
        offset += done

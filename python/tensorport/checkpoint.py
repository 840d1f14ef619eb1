# SPDX-License-Identifier: MIT
"""A checkpoint as a mapping of names to tensors that read nothing until they are asked."""

from __future__ import annotations

import gc
import operator
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .errors import printable
from .manifest import Entry, Manifest, read_manifest
from .reading import Reader, empty_aligned

if TYPE_CHECKING:
    import jax

_FLOAT4 = np.dtype(ml_dtypes.float4_e2m1fn)
Keys = tuple[str, ...]


class Tensor:
    """An array of an open checkpoint. Its bytes are read when they are asked for, each time anew.

    Attributes:
        path: keys from the root of the tree; one key in a flat tree.
        name: the keys joined by '/'.
        shape: sizes of the axes; () is a scalar.
        dtype: NumPy dtype of the elements, also those of ml_dtypes (bfloat16, float8_e4m3fn, ...).
        codes: None; or, of six-bit floats, their dtype. safetensors does not say in which order their bits
            lie, so that the elements are the bytes as stored (uint8), four codes in three: the last axis is
            3/4 as long, or, where that is no whole number, all bytes are in one axis.
    """

    __slots__ = ("_checkpoint", "_entry", "_packed", "codes", "dtype", "name", "path", "shape")

    def __init__(self, checkpoint: Checkpoint, entry: Entry, views: bool) -> None:
        """Made by Checkpoint alone."""
        self._checkpoint = checkpoint
        self._entry = entry
        self.path = entry.path
        self.name = entry.name
        view = entry.view if views else None
        self._packed = view == _FLOAT4 or entry.codes == _FLOAT4  # two codes a byte
        self.codes = None if self._packed else entry.codes
        self.dtype: np.dtype[Any] = _FLOAT4 if self._packed else entry.dtype if view is None else view
        self.shape = entry.shape
        if self._packed:
            self.shape = entry.codes_shape if entry.codes else (*entry.shape[:-1], entry.shape[-1] * 2)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array that numpy() returns."""
        return self.size * self.dtype.itemsize

    def numpy(self) -> NDArray[Any]:
        """The whole array, in a buffer of its own that begins at a multiple of 64 bytes.

        Of a checkpoint opened with mmap=True it may instead be a read-only map of the file.

        Raises:
            FormatError: a file changed since the checkpoint was opened.
            OSError: the file system's own errors.
        """
        return read_all([self])[0]

    def jax(self, sharding: jax.sharding.Sharding | None = None, *, allow_truncation: bool = False) -> jax.Array:
        """The array on its devices, only the slices of this process's devices read. Errors as load()."""
        from .loading import place  # here, so that NumPy alone needs no second for importing JAX

        return place([self], [sharding], allow_truncation)[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """A part of the array, as NumPy's basic indexing gives it, without reading the rest of the file.

        Args:
            index: integers, slices (any step) and at most one Ellipsis. For index arrays and new axes
                use numpy() first.

        Raises:
            IndexError: an index outside the array, too many of them, or of another kind.
        """
        ranges, dropped = _basic_index(index, self.shape)
        flips = tuple([slice(None, None, -1 if indices.step < 0 else 1) for indices in ranges])
        box = [indices[::-1] if indices.step < 0 else indices for indices in ranges]
        return self._read_box(box)[flips].reshape([len(r) for r, drop in zip(ranges, dropped, strict=True) if not drop])

    def _read_box(self, box: list[range]) -> NDArray[Any]:
        read = self._checkpoint._reader_now().read_box
        if not self._packed:
            return read(self._entry, box).view(self.dtype)
        if not all(box):
            return empty_aligned([len(indices) for indices in box], self.dtype)
        codes = box[-1]
        if self.shape[-1] % 2:
            return self._read_odd_box(box)
        stored = range(codes[0] // 2, codes[-1] // 2 + 1)
        unpacked = _unpack(read(self._entry, [*box[:-1], stored]))
        return unpacked[..., codes[0] % 2 :: codes.step][..., : len(codes)]

    def _read_odd_box(self, box: list[range]) -> NDArray[Any]:
        """Of packed codes whose rows begin within bytes: all that lies between the first and the last row is read."""
        rows, row_codes = box[0], prod(self.shape[1:])
        first, end = rows[0] * row_codes, (rows[-1] + 1) * row_codes
        stored = self._checkpoint._reader_now().read_box(self._entry, [range(first // 2, (end + 1) // 2)])
        codes = _unpack(stored)[first % 2 :][: end - first].reshape(-1, *self.shape[1:])
        index = [slice(None, None, rows.step)]
        index += [slice(indices.start, indices.stop, indices.step) for indices in box[1:]]
        return codes[tuple(index)]

    def _finish(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The elements, from the array as it lies in the file."""
        return _unpack(stored).reshape(self.shape) if self._packed else stored.view(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """For numpy.asarray(tensor)."""
        if copy is False:
            raise ValueError("a tensor of a checkpoint cannot become an array without reading (copying) it")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __repr__(self) -> str:
        """Name, dtype and shape."""
        return f"<Tensor {printable(self.name)} {self.dtype} {list(self.shape)}>"


class Checkpoint(Mapping[str, Tensor]):
    """An output of TensorPort, opened: a mapping of names to tensors, in the order of their data.

    A name is the keys of the tree joined by '/' (in a flat tree simply the tensor's name); the tuple of keys
    is understood, too. No file stays open between reads; a file that was replaced or rewritten since the
    checkpoint was opened is an error, never a mixture. Any number of threads may read at once.
    """

    def __init__(self, manifest: Manifest, *, views: bool, use_mmap: bool, threads: int | None) -> None:
        """Use open()."""
        self._manifest = manifest
        document = manifest.document
        knows_lists = document["layout"] in ("orbax", "jax-pytree")
        self._lists = knows_lists and document["tree"] == "lists"
        self._list_paths = {entry.path[:level] for entry in manifest.entries for level in entry.lists if knows_lists}
        places = {entry.path: entry.leaf for entry in manifest.entries if entry.leaf is not None}
        self._places = places if document["layout"] == "jax-pytree" else {}
        self._reader: Reader | None = Reader(manifest.files, threads, use_mmap)
        self._by_path = {entry.path: Tensor(self, entry, views) for entry in manifest.entries}
        self._by_name = {tensor.name: tensor for tensor in self._by_path.values()}
        if len(self._by_name) != len(self._by_path):  # keys may hold a '/' themselves, rarely so that names clash
            for tensor in self._by_path.values():
                tensor.name = repr(tensor.path)
            self._by_name = {tensor.name: tensor for tensor in self._by_path.values()}

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._manifest.folder

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What manifest.json says beside the arrays: options, source, totals, casts, files."""
        return self._manifest.document

    def names(self) -> list[str]:
        """All names, in the order of their data."""
        return list(self._by_name)

    def tree(self) -> Any:
        """The tensors as a dict, flat, nested, with lists, or ordered, as the checkpoint was written."""
        return self._build(list(self._by_path.values()), list(self._by_path.values()))

    def _build(self, tensors: Sequence[Tensor], leaves: Sequence[Any]) -> Any:
        """A tree of `leaves`, each where its tensor is."""
        root = build_tree([tensor.path for tensor in tensors], leaves)
        if self._places:
            return OrderedDict(sorted(root.items(), key=lambda item: self._places[item[0],]))
        return self._with_lists(root, ()) if self._lists or self._list_paths else root

    def _with_lists(self, node: Any, path: Keys) -> Any:
        """The tree with lists for dicts whose keys are "0", "1", ... without a gap, all of them or those that are."""
        if not isinstance(node, dict):
            return node
        inner = {key: self._with_lists(child, (*path, key)) for key, child in node.items()}
        indices = [str(number) for number in range(len(inner))]
        is_list = (self._lists or path in self._list_paths) and bool(inner) and inner.keys() == set(indices)
        return [inner[index] for index in indices] if is_list else inner

    def close(self) -> None:
        """Tensors can be read no longer. Arrays that were read stay good, maps included."""
        self._reader = None

    def _reader_now(self) -> Reader:
        if self._reader is None:
            raise ValueError(f"{self.folder}: the checkpoint was closed")
        return self._reader

    def __getitem__(self, name: str | Keys) -> Tensor:
        """The tensor of that name, or of that tuple of keys; KeyError if there is none."""
        return self._by_path[name] if isinstance(name, tuple) else self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._by_name)

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self._by_name)

    def __enter__(self) -> Checkpoint:
        """For `with tensorport.open(folder) as checkpoint`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Folder and number of tensors."""
        return f"<Checkpoint {printable(self.folder)}, {len(self)} tensors>"


def open_checkpoint(
    directory: str | os.PathLike[str], *, views: bool = False, mmap: bool = False, threads: int | None = None
) -> Checkpoint:
    """Open an output of TensorPort without reading a byte of its arrays.

        with tensorport.open("model-jax") as checkpoint:
            embedding = checkpoint["model.embed_tokens.weight"]
            print(embedding.shape, embedding.dtype)
            first_rows = embedding[:10]              # reads ten rows

    Args:
        directory: folder with a manifest.json, or of numbered steps: then the last one.
        views: what to make of arrays that --compat stored as uint8. False: uint8, as stored. True: the dtype
            they stand for (for example float8_e8m0fnu); float4_e2m1fn, stored two codes a byte, is unpacked
            to one element a byte, its last axis twice as long (without --compat it always is).
        mmap: map arrays that lie in one piece at a multiple of 64 bytes instead of reading them. Nothing is
            then read before it is used, but the arrays are only as good as the file: one that is truncated
            while mapped ends the process, one that is rewritten changes the arrays.
        threads: how many read at once; None is one a CPU, at most 8.

    Raises:
        FileNotFoundError: there is no such folder, or no manifest.json in it.
        FormatError: the manifest is not sound, or a file is missing or has not the size that it says.
    """
    with _no_collection():
        return Checkpoint(read_manifest(directory), views=views, use_mmap=mmap, threads=threads)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hundreds of thousands of objects are made, none of them garbage: looking for some takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_all(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """The whole arrays of tensors of one checkpoint, read together."""
    if not tensors:
        return []
    stored = tensors[0]._checkpoint._reader_now().read([tensor._entry for tensor in tensors])
    return [tensor._finish(array) for tensor, array in zip(tensors, stored, strict=True)]


def build_tree(paths: Sequence[Keys], leaves: Sequence[Any]) -> dict[str, Any]:
    """A dict of dicts with `leaves` at `paths`."""
    root: dict[str, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return root


def _unpack(stored: NDArray[Any]) -> NDArray[Any]:
    """Two float4 codes a byte, the low one first, to one element a byte."""
    codes = empty_aligned((*stored.shape, 2), np.dtype(np.uint8))
    np.bitwise_and(stored, 15, out=codes[..., 0])
    np.right_shift(stored, 4, out=codes[..., 1])
    return codes.reshape(*stored.shape[:-1], stored.shape[-1] * 2).view(_FLOAT4)


def _basic_index(index: Any, shape: tuple[int, ...]) -> tuple[list[range], list[bool]]:
    """For each axis the indices that are wanted, and whether the axis disappears (an integer index)."""
    items = list(index) if isinstance(index, tuple) else [index]
    ellipses = [number for number, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("more than one Ellipsis")
    given = len(items) - len(ellipses)
    if given > len(shape):
        raise IndexError(f"{given} indices for an array of {len(shape)} axes")
    place = ellipses[0] if ellipses else len(items)
    items[place : place + 1] = [slice(None)] * (len(shape) - given)
    ranges = [_axis_range(item, size, axis) for axis, (item, size) in enumerate(zip(items, shape, strict=True))]
    return ranges, [not isinstance(item, slice) for item in items]


def _axis_range(item: Any, size: int, axis: int) -> range:
    if isinstance(item, slice):
        return range(size)[item]
    try:
        number = operator.index(item)
    except TypeError:
        number = None
    if number is None or isinstance(item, bool | np.bool_):
        raise IndexError(f"axis {axis}: only integers, slices and an Ellipsis can be used; read numpy() first")
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of bounds for axis {axis} with size {size}")
    return range(number % size, number % size + 1)

# SPDX-License-Identifier: MIT
"""From a checkpoint on disk to jax.Arrays on their devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from numpy.typing import NDArray

from .checkpoint import Checkpoint, Keys, Tensor, open_checkpoint, read_all
from .errors import MismatchError, TruncationError, printable
from .reading import empty_aligned

# Small arrays are handed to JAX together, up to this many bytes: one call for many is twice as fast.
_BATCH_BYTES = 64 << 20

Names = str | Iterable[str] | Callable[[str], bool]
Shardings = Sharding | Callable[[str], Sharding | None]


def load(
    directory: str | os.PathLike[str],
    *,
    names: Names | None = None,
    like: Any = None,
    sharding: Shardings | None = None,
    allow_truncation: bool = False,
    views: bool = False,
    mmap: bool = False,
    threads: int | None = None,
) -> Any:
    """Load an output of TensorPort into JAX.

        params = tensorport.load("model-jax")
        params = tensorport.load("model-jax", names=["model.layers.0.*", "model.norm.weight"])
        params = tensorport.load("model-jax", like=jax.eval_shape(model.init, key, tokens))
        params = tensorport.load("model-jax", sharding=NamedSharding(mesh, PartitionSpec("model")))

    Args:
        directory: folder with a manifest.json, or of numbered steps: then the last one.
        names: which arrays. One glob, several globs, or a function that is given a name and answers whether it
            is wanted. In a glob `*` stands for any characters, dots included, `?` for one, `[abc]` for one of
            these; a glob that is exactly a name means that name. One that selects nothing is an error. An
            array's name is its keys joined by '/', in a flat tree simply the tensor's name. None: all arrays.
        like: a pytree whose leaves have shape and dtype (jax.ShapeDtypeStruct as jax.eval_shape gives, arrays,
            an nnx.State). The result then has its structure, and every array must fit: the same names, shapes
            and dtypes on both sides (no cast is made). Keys are compared as text, list positions as "0", "1";
            where the keys do not agree, the keys joined by dots do, so a nested `like` also fits a flat
            checkpoint. Combine it with `names` to leave out arrays that `like` does not have.
        sharding: one jax.sharding.Sharding for all arrays, or a function that is given a name and returns the
            array's Sharding or None. Only the bytes of the slices that this process's devices hold are read.
            None: the leaf's own `sharding` where `like` has one, else JAX's default device.
        allow_truncation: let JAX cut int64, uint64, float64 and complex128 to 32 bits when jax_enable_x64 is
            off, as jax.device_put does. Otherwise that is an error.
        views: as in open(): what to make of arrays that --compat stored as uint8.
        mmap: as in open(): map what is aligned instead of reading it; fast, but the file must not change.
        threads: how many read at once; None is one a CPU, at most 8.

    Returns:
        A dict, flat (name -> jax.Array) or nested as the checkpoint was written (--tree lists: with a list where
        keys are "0", "1", ... without a gap; a map: as it says); or a tree like `like`.
        Host memory beside the result: one array, or 64 MiB of small ones.

    Raises:
        FileNotFoundError: there is no such folder, or no manifest.json in it.
        FormatError: the manifest or a file is not sound.
        MismatchError: globs that select nothing, or the checkpoint does not fit `like`: all of it listed.
        TruncationError: 64-bit arrays without jax_enable_x64: all of them named.
    """
    with open_checkpoint(directory, views=views, mmap=mmap, threads=threads) as checkpoint:
        tensors = _select(checkpoint, names)
        if like is None:
            arrays = place(tensors, [_sharding_of(sharding, tensor, None) for tensor in tensors], allow_truncation)
            return checkpoint._build(tensors, arrays)
        leaves, structure = jax.tree_util.tree_flatten_with_path(like)
        tensors = _match(leaves, tensors, allow_truncation)
        shardings = [_sharding_of(sharding, tensor, leaf) for tensor, (_, leaf) in zip(tensors, leaves, strict=True)]
        return jax.tree.unflatten(structure, place(tensors, shardings, allow_truncation))


def place(tensors: Sequence[Tensor], shardings: Sequence[Sharding | None], allow_truncation: bool) -> list[jax.Array]:
    """Read `tensors` and put each on its devices; None is JAX's default device. TruncationError as load()."""
    cut = [tensor.name for tensor in tensors if _canonical(tensor.dtype) != tensor.dtype]
    if cut and not allow_truncation:
        raise TruncationError(cut)
    results: dict[int, jax.Array] = {}
    for batch in _batches(tensors, shardings):
        placed = _place_batch([tensors[number] for number in batch], shardings[batch[0]])
        for number, array in zip(batch, placed, strict=True):
            # Its host buffer lives until the copy to the device is done: wait, or a slow device gathers them all.
            results[number] = array.block_until_ready()
    return [results[number] for number in range(len(tensors))]


def _batches(tensors: Sequence[Tensor], shardings: Sequence[Sharding | None]) -> Iterator[list[int]]:
    """Numbers of tensors that are read and placed together, of one sharding each."""
    open_batches: dict[Sharding | None, list[int]] = {}
    held = dict.fromkeys(shardings, 0)
    for number, (tensor, sharding) in enumerate(zip(tensors, shardings, strict=True)):
        batch = open_batches.setdefault(sharding, [])
        if batch and held[sharding] + tensor.nbytes > _BATCH_BYTES:
            yield batch
            batch = open_batches[sharding] = []
            held[sharding] = 0
        batch.append(number)
        held[sharding] += tensor.nbytes
    yield from open_batches.values()


def _place_batch(tensors: list[Tensor], sharding: Sharding | None) -> list[jax.Array]:
    if sharding is not None and not (sharding.is_fully_replicated and sharding.is_fully_addressable):
        return [_place_slices(tensor, sharding) for tensor in tensors]
    arrays = [_truncated(array) for array in read_all(tensors)]
    return list(jax.device_put(arrays, sharding))


def _place_slices(tensor: Tensor, sharding: Sharding) -> jax.Array:
    """Each slice is read once, however many devices hold it."""
    slices: dict[tuple[tuple[int, int, int], ...], NDArray[Any]] = {}

    def read(index: tuple[slice, ...] | None) -> Any:
        index = (slice(None),) * tensor.ndim if index is None else index
        key = tuple([part.indices(size) for part, size in zip(index, tensor.shape, strict=True)])
        if key not in slices:
            slices[key] = _truncated(tensor[index])
        return slices[key]

    return jax.make_array_from_callback(tensor.shape, sharding, read, dtype=_canonical(tensor.dtype))


def _canonical(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that JAX gives the array: a 32-bit one for a 64-bit one unless jax_enable_x64 is on."""
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


def _truncated(array: NDArray[Any]) -> NDArray[Any]:
    dtype = _canonical(array.dtype)
    if dtype == array.dtype:
        return array
    result = empty_aligned(array.shape, dtype)
    with np.errstate(over="ignore"):
        result[...] = array
    return result


def _sharding_of(sharding: Shardings | None, tensor: Tensor, leaf: Any) -> Sharding | None:
    if sharding is None:
        return getattr(leaf, "sharding", None)
    return sharding if isinstance(sharding, Sharding) else sharding(tensor.name)


def _select(checkpoint: Checkpoint, names: Names | None) -> list[Tensor]:
    if names is None:
        return list(checkpoint.values())
    if callable(names):
        return [tensor for name, tensor in checkpoint.items() if names(name)]
    globs = [names] if isinstance(names, str) else list(names)
    chosen: set[str] = set()
    problems = []
    for glob in globs:
        found = [glob] if glob in checkpoint else [name for name in checkpoint if fnmatchcase(name, glob)]
        if not found:
            problems.append(f"{printable(glob)} selects nothing")
        chosen.update(found)
    if problems:
        raise MismatchError(f"{checkpoint.folder}: names:", problems)
    return [tensor for name, tensor in checkpoint.items() if name in chosen]


def _match(leaves: list[tuple[Any, Any]], tensors: list[Tensor], allow_truncation: bool) -> list[Tensor]:
    """The tensor for each leaf of `like`, in the order of the leaves; or everything that does not fit."""
    by_path = {tensor.path: tensor for tensor in tensors}
    by_dots: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        by_dots.setdefault(".".join(tensor.path), []).append(tensor)
    matched: list[Tensor] = []
    problems: list[str] = []
    for keys, leaf in leaves:
        found = _find(keys, by_path, by_dots)
        if found is None:
            problems.append(f"missing in the checkpoint: {printable('/'.join(_texts(keys)))} {_describe(leaf)}")
        else:
            matched.append(found)
            problems += _differences(found, leaf, allow_truncation)
    used = {id(tensor) for tensor in matched}
    problems += [f"not in like: {printable(t.name)} {_describe(t)}" for t in tensors if id(t) not in used]
    if len(used) != len(matched):
        problems.append("several leaves of like mean the same array")
    if problems:
        raise MismatchError(f"the checkpoint does not fit like ({len(problems)} problems):", problems)
    return matched


def _find(keys: Any, by_path: dict[Keys, Tensor], by_dots: dict[str, list[Tensor]]) -> Tensor | None:
    """The tensor for a leaf of `like`: by its path, else by the path joined by dots."""
    texts = _texts(keys)
    candidates = [texts]
    if len(keys) > 1 and isinstance(keys[-1], jax.tree_util.GetAttrKey):
        candidates.append(texts[:-1])  # an nnx.State's leaves are the `value` attributes of its variables
    for path in candidates:
        if path in by_path:
            return by_path[path]
    for path in candidates:
        same = by_dots.get(".".join(path), [])
        if len(same) == 1:
            return same[0]
    return None


def _texts(keys: Any) -> Keys:
    """The keys of a JAX key path as text, whatever kind of container each belongs to."""
    return tuple([str(next(getattr(key, a) for a in ("key", "idx", "name") if hasattr(key, a))) for key in keys])


def _differences(tensor: Tensor, leaf: Any, allow_truncation: bool) -> list[str]:
    name = printable(tensor.name)
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return [f"{name}: the leaf of like is a {type(leaf).__name__}, which has no shape and dtype"]
    problems = []
    if tuple(leaf.shape) != tensor.shape:
        problems.append(f"{name}: shape {list(tensor.shape)} in the checkpoint, {list(leaf.shape)} in like")
    cut = _canonical(tensor.dtype)
    if leaf.dtype != (cut if allow_truncation else tensor.dtype):
        hint = " (allow_truncation=True would cut it)" if leaf.dtype == cut else ""
        problems.append(f"{name}: {tensor.dtype} in the checkpoint, {leaf.dtype} in like{hint}")
    return problems


def _describe(leaf: Any) -> str:
    return f"{getattr(leaf, 'dtype', type(leaf).__name__)} {list(getattr(leaf, 'shape', ()))}"

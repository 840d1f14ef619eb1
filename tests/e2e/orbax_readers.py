# SPDX-License-Identifier: MIT
"""The ways in which programs restore an Orbax checkpoint, each as a function of the folder (and of what is wanted)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from orbax.checkpoint import v1

Array = np.ndarray[Any, Any]


def with_handler(path: Path) -> Any:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(path, args=ocp.args.PyTreeRestore())


def pytree_like(path: Path, like: Any) -> Any:
    arguments = ocp.checkpoint_utils.construct_restore_args(like)
    return ocp.PyTreeCheckpointer().restore(path, item=like, restore_args=arguments)


# Everything as it is stored; and into the shapes, dtypes and shardings of a tree.
BARE: dict[str, Callable[[Path], Any]] = {
    "standard": lambda path: ocp.StandardCheckpointer().restore(path),
    "pytree": lambda path: ocp.PyTreeCheckpointer().restore(path),
    "handler": with_handler,
    "v1": v1.load,
}
LIKE: dict[str, Callable[[Path, Any], Any]] = {
    "standard": lambda path, like: ocp.StandardCheckpointer().restore(path, like),
    "pytree": pytree_like,
    "v1": v1.load,
}


def tree_of(arrays: dict[str, Array], tree: str = "flat", wrap: str | None = None) -> Any:
    """What the command makes of tensors of these names."""
    root: dict[str, Any] = {}
    for name, array in arrays.items():
        node, keys = root, (wrap.split("/") if wrap else []) + ([name] if tree == "flat" else name.split("."))
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = array
    return with_lists(root) if tree == "lists" else root


def with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    inner = {key: with_lists(child) for key, child in node.items()}
    indices = [str(number) for number in range(len(inner))]
    return [inner[index] for index in indices] if set(indices) == set(inner) else inner


def shapes_of(tree: Any, sharding: Callable[[Array], Sharding | None] = lambda _: None) -> Any:
    """The abstract tree that a program would restore into."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding(a)), tree)


def on_axis(axis: int, devices: int = 8) -> Callable[[Array], Sharding]:
    """Cut along one axis where the array has it and it can be cut, else whole on every device."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))

    def choose(array: Array) -> Sharding:
        cut = array.ndim > axis and array.shape[axis] > 0 and array.shape[axis] % devices == 0
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "x") if cut else PartitionSpec())

    return choose


def assert_tree(found: Any, wanted: Any) -> None:
    """The same structure, and in every leaf the same dtype, shape and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for (path, array), leaf in zip(jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(found), strict=True):
        value = np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        assert (value.dtype, value.shape) == (array.dtype, array.shape), name
        assert value.tobytes() == np.asarray(array).tobytes(), name
        for shard in getattr(leaf, "addressable_shards", []):
            assert np.asarray(shard.data).tobytes() == array[shard.index].tobytes(), name

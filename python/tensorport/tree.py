# SPDX-License-Identifier: MIT
"""What a model wants, as a file: the tree.json that `tensorport map check --against` compares a map with.

    {"dense/kernel": {"shape": [3, 4], "dtype": "float32"}, ...}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

# What wraps a single array: the variables of flax.nnx, the boxes of flax.linen. Their name is no key of the tree.
_WRAPPERS = (".value", ".raw_value")


def _without_random_state(tree: Any) -> Any:
    """Of a flax.nnx module its state; of a state all but the counters and keys of random numbers."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return tree
    if isinstance(tree, nnx.Module):
        tree = nnx.state(tree)
    if isinstance(tree, nnx.State):
        keep = nnx.Not(nnx.RngState)
        tree = nnx.filter_state(tree, keep) if hasattr(nnx, "filter_state") else tree.filter(keep)
    return tree


def _key(entry: Any) -> str:
    """A key of a path, whatever kind of node it leads into."""
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return str(getattr(entry, name))
    return str(entry)


def tree_shapes(tree: Any, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Path, shape and dtype of every leaf.

    Args:
        tree: the result of jax.eval_shape, a flax.nnx module or state (abstract or not), or any pytree whose leaves
            have a shape and a dtype. Nothing is computed, no value is read.
        prefix: keys in front of every path, '/' between them: "params/params".

    Returns:
        By path, its keys joined by '/': {"shape": [...], "dtype": NumPy's name}. In the order of the tree.

    Raises:
        TypeError: a leaf is no array.
    """
    import jax

    shapes: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(_without_random_state(tree))[0]:
        entries = path[:-1] if path and str(path[-1]) in _WRAPPERS else path
        name = "/".join([*prefix.split("/"), *map(_key, entries)] if prefix else map(_key, entries))
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"{name} is of type {type(leaf).__name__}, which has no shape and dtype")
        shapes[name] = {"shape": [int(size) for size in leaf.shape], "dtype": np.dtype(leaf.dtype).name}
    return shapes


def tree_json(tree: Any, path: str | Path, prefix: str = "") -> None:
    """Write tree_shapes(tree, prefix) to `path`, a leaf a line."""
    leaves = [f"{json.dumps(name)}: {json.dumps(leaf)}" for name, leaf in tree_shapes(tree, prefix).items()]
    Path(path).write_text("{" + ",\n ".join(leaves) + "}\n", encoding="utf-8")

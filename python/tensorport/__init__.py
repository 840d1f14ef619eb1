# SPDX-License-Identifier: MIT
"""Loads what the command `tensorport` made into JAX.

    import tensorport

    params = tensorport.load("model-jax")                       # a dict of jax.Array
    with tensorport.open("model-jax") as checkpoint:            # reads nothing yet
        rows = checkpoint["model.embed_tokens.weight"][:10]     # reads ten rows

load() and open() read through the manifest's offsets into aligned buffers, which JAX takes over without another
copy. convert() and verify() run the command. tree_json() writes down what a model wants, for `map check --against`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint, Tensor
from .checkpoint import open_checkpoint as open
from .command import convert, verify
from .errors import CommandError, FormatError, MismatchError, TruncationError
from .tree import tree_json, tree_shapes

if TYPE_CHECKING:
    from .loading import load

__version__ = "0.1.0"
__all__ = [
    "Checkpoint",
    "CommandError",
    "FormatError",
    "MismatchError",
    "Tensor",
    "TruncationError",
    "convert",
    "load",
    "open",
    "tree_json",
    "tree_shapes",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import JAX, which takes a second, only when load() is wanted."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .loading import load

    globals()[name] = load
    return load

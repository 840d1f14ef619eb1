# SPDX-License-Identifier: MIT
"""tree.json: what a model wants, as the models themselves say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import tensorport


class Block(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.up = nnx.Linear(4, 6, rngs=rngs, param_dtype=jnp.bfloat16)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


class Model(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(10, 4, rngs=rngs)
        self.blocks = nnx.List([Block(rngs=rngs) for _ in range(2)])


def wanted() -> dict[str, dict[str, Any]]:
    leaves: dict[str, dict[str, Any]] = {"embed/embedding": {"shape": [10, 4], "dtype": "float32"}}
    for block in range(2):
        at = f"blocks/{block}"
        leaves[f"{at}/up/kernel"] = {"shape": [4, 6], "dtype": "bfloat16"}
        leaves[f"{at}/up/bias"] = {"shape": [6], "dtype": "bfloat16"}
        for name in ("bias", "mean", "scale", "var"):
            leaves[f"{at}/norm/{name}"] = {"shape": [6], "dtype": "float32"}
    return leaves


@pytest.mark.parametrize("abstract", [False, True])
def test_nnx_modules_and_states_without_their_random_numbers(abstract: bool) -> None:
    def make() -> Model:
        return Model(rngs=nnx.Rngs(0))

    model = nnx.eval_shape(make) if abstract else make()
    assert tensorport.tree_shapes(model) == wanted()
    assert tensorport.tree_shapes(nnx.state(model)) == wanted()
    parameters = {name for name in wanted() if not name.endswith(("/mean", "/var"))}
    assert set(tensorport.tree_shapes(nnx.state(model, nnx.Param))) == parameters


def test_linen_variables_and_partitioned_ones() -> None:
    class Dense(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            init = linen.with_partitioning(linen.initializers.lecun_normal(), (None, "model"))
            return linen.Dense(5, kernel_init=init, name="dense")(x)

    shapes = jax.eval_shape(Dense().init, jax.random.key(0), jnp.zeros((1, 3)))
    assert tensorport.tree_shapes(shapes) == {
        "params/dense/kernel": {"shape": [3, 5], "dtype": "float32"},
        "params/dense/bias": {"shape": [5], "dtype": "float32"},
    }


def test_lists_tuples_and_arrays_of_any_kind() -> None:
    tree = {"a": [np.zeros((2, 3), np.int8), (jnp.zeros(()),)], "b/c": jax.ShapeDtypeStruct((0, 7), jnp.float8_e4m3fn)}
    assert tensorport.tree_shapes(tree, prefix="params/params") == {
        "params/params/a/0": {"shape": [2, 3], "dtype": "int8"},
        "params/params/a/1/0": {"shape": [], "dtype": "float32"},
        "params/params/b/c": {"shape": [0, 7], "dtype": "float8_e4m3fn"},
    }


def test_a_leaf_that_is_no_array_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="opt/step is of type int"):
        tensorport.tree_shapes({"opt": {"step": 3}})


def test_the_file_is_json_with_a_leaf_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    tensorport.tree_json({"é": np.zeros(1), "b": np.zeros(2)}, path)
    assert path.read_bytes().isascii()
    assert path.read_text().count("\n") == 2
    assert json.loads(path.read_text()) == tensorport.tree_shapes({"é": np.zeros(1), "b": np.zeros(2)})

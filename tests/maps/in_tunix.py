# SPDX-License-Identifier: MIT
"""Runs in the environment build/maps-tunix: Tunix's own loaders of safetensors files, and its models.

    in_tunix.py JOBS.json

A job that converts: "family" (tunix.models.FAMILY), "sizes" (of its ModelConfig), "source" (a folder) and "out": a
safetensors file for the leaves of nnx.to_pure_dict, whose names are paths with "/" between keys. A job that
calculates has "params" (an Orbax folder) and "ids" (.npy) in place of "source", and writes logits, float32, to "out"
(.npy).
"""

import importlib
import json
import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from safetensors.numpy import save_file

MODELS = {
    "qwen3": ("qwen3", "params", "Qwen3"),
    "llama3": ("llama3", "params", "Llama3"),
    "gemma3": ("gemma3", "params_safetensors", "Gemma3"),
}


def model_of(job):
    """The module that loads, the class, its config."""
    folder, params, name = MODELS[job["family"]]
    module = importlib.import_module(f"tunix.models.{folder}.model")
    loader = importlib.import_module(f"tunix.models.{folder}.{params}")
    return loader, getattr(module, name), module.ModelConfig(**job["sizes"])


def convert(job):
    """From a folder to the leaves of the model."""
    loader, _, config = model_of(job)
    model = loader.create_model_from_safe_tensors(job["source"], config, mode=job["mode"])
    tree = nnx.to_pure_dict(nnx.state(model))
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    arrays = {"/".join(str(key.key) for key in path): np.ascontiguousarray(leaf) for path, leaf in leaves}
    save_file(arrays, job["out"])


def calculate(job):
    """Logits with given parameters, in float32."""
    _, cls, config = model_of(job)
    graph, state = nnx.split(nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0))))
    wanted = nnx.to_pure_dict(state)
    filled = ocp.StandardCheckpointer().restore(job["params"], wanted)
    nnx.replace_by_pure_dict(state, filled)
    model = nnx.merge(graph, state)
    ids = np.load(job["ids"])
    count = ids.shape[1]
    positions = np.broadcast_to(np.arange(count), ids.shape)
    mask = np.broadcast_to(np.tril(np.ones((count, count), bool)), (ids.shape[0], count, count))
    logits, _ = model(jnp.asarray(ids), jnp.asarray(positions), None, jnp.asarray(mask))
    np.save(job["out"], np.asarray(logits, np.float32))


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text()):
        (convert if "source" in one else calculate)(one)
    print("ALL DONE")

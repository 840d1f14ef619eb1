# SPDX-License-Identifier: MIT
"""Runs in the environment build/maps-maxtext: MaxText's own converter, and its models.

    in_maxtext.py JOBS.json

A job that converts: "model" (MaxText's name), "source" (a folder), "config" (what stands for Hugging Face's config),
"options" (MaxText's, that make the model tiny), "dtype" (of the checkpoint), "out": a safetensors file for the leaves,
whose names are paths with "/" between keys. A job that calculates has "params" (an Orbax folder, as it would be
named to load_parameters_path) and "ids" (.npy) in place of "source", and writes logits, float32, to "out" (.npy).
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
from safetensors.numpy import save_file

ALWAYS = {
    "override_model_config": True,
    "skip_jax_distributed_system": True,
    "hardware": "cpu",
    "attention": "dot_product",
    "enable_dropout": False,
    "run_name": "tiny",
}


def arguments(job, **more):
    """As on MaxText's command line."""
    import maxtext

    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    options = ALWAYS | job["options"] | more | {"model_name": job["model"]}
    return ["", str(base), *(f"{name}={value}" for name, value in options.items())]


def leaves_of(tree):
    """Arrays by their paths."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        keys = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None)))) for key in path]
        found["/".join(keys)] = np.ascontiguousarray(np.asarray(leaf))
    return found


class Config:
    """Stands for a config of transformers."""

    def __init__(self, values):
        """`values`: what to_dict gives."""
        self.values = values

    def to_dict(self):
        """All that MaxText's converter asks for."""
        return self.values


def convert(job):
    """The whole program: from a folder to an Orbax checkpoint, which is then read back."""
    import orbax.checkpoint as ocp
    from maxtext.checkpoint_conversion import to_maxtext

    to_maxtext.HF_MODEL_CONFIGS[job["model"]] = Config(job["config"])
    with tempfile.TemporaryDirectory() as folder:
        to_maxtext.main(
            arguments(job, base_output_directory=folder),
            hf_model_path=job["source"],
            save_dtype=job["dtype"],
            simulated_cpu_devices_count=4,
        )
        (items,) = Path(folder).rglob("0/items")
        tree = ocp.PyTreeCheckpointer().restore(items)
    save_file(leaves_of({"params": tree["params"]}), job["out"])


def calculate(job):
    """Logits of a model with given parameters, in float32."""
    from flax import linen as nn
    from maxtext.common import checkpointing
    from maxtext.common.common_types import MODEL_MODE_TRAIN
    from maxtext.configs import pyconfig
    from maxtext.models import models
    from maxtext.utils import maxtext_utils

    config = pyconfig.initialize(arguments(job, dtype="float32", weight_dtype="float32", per_device_batch_size=1))
    ids = np.load(job["ids"])
    mesh = jax.sharding.Mesh(maxtext_utils.create_device_mesh(config), config.mesh_axes)
    model = models.transformer_as_linen(config, mesh, quant=None, model_mode=MODEL_MODE_TRAIN)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        nn.unbox(maxtext_utils.get_abstract_param(model, config)),
    )
    params = checkpointing.load_params_from_path(job["params"], wanted, config.checkpoint_storage_concurrent_gb)
    positions = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
    with mesh, nn.logical_axis_rules(config.logical_axis_rules):
        logits = model.apply(
            params,
            ids,
            positions,
            decoder_segment_ids=np.ones_like(ids),
            enable_dropout=False,
            mutable=["intermediates"],
        )[0]
    np.save(job["out"], np.asarray(logits, np.float32))


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text()):
        (convert if "source" in one else calculate)(one)
    print("ALL DONE")

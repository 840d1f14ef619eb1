# SPDX-License-Identifier: MIT
"""From a Hugging Face folder to a tree of sharded jax.Arrays, by Orbax: orbax_restore.py MODEL CHECKPOINT.

The command `tensorport` must be on the PATH (or name it in TENSORPORT_BIN). Not one byte of the weights is copied.
"""

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")  # where there is but one CPU

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import tensorport


def main(model: str, checkpoint: str) -> None:
    """Convert, restore, and say what came of it."""
    mesh = Mesh(jax.devices(), ("model",))

    def on_devices(array: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """Cut along the first axis where that is possible, else whole on every device."""
        cut = array.ndim > 1 and array.shape[0] % mesh.size == 0
        sharding = NamedSharding(mesh, P("model") if cut else P())
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    tensorport.convert(model, checkpoint, format="orbax", zero_copy=True)
    with tensorport.open(checkpoint) as opened:
        like = jax.tree.map(on_devices, opened.tree())
    params = ocp.StandardCheckpointer().restore(os.path.abspath(checkpoint), like)

    for path, array in jax.tree_util.tree_leaves_with_path(params)[:5]:
        print(jax.tree_util.keystr(path), array.dtype, array.shape, array.sharding.spec)
    print(len(jax.tree.leaves(params)), "arrays on", len(jax.devices()), "devices")


if __name__ == "__main__":
    main(*sys.argv[1:])

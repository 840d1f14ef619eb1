# SPDX-License-Identifier: MIT
"""The maps jax-llm-examples/*, bonsai/* and flax-linen/*: what each project wants, restated index by index.

jax-llm-examples (8b4b246) and Bonsai (3628425) are in no package index; their layouts are said here once more in
plain NumPy, and their names one by one. For plain Linen a model is written out, which calculates torch's logits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_models as tiny
from flax import linen as nn
from numpy_models import assert_same_logits, llama_logits
from presets import (
    ROOT,
    Array,
    applied,
    assert_same_arrays,
    converted,
    decoded_mxfp4,
    joined,
    leaves_of,
    nested,
    read_checkpoint,
    run_command,
)
from tiny_models import BF16, F32, Model

BOTH = pytest.mark.parametrize("dtype", [F32, BF16], ids=["f32", "bf16"])
Named = Iterator[tuple[str, Array]]


def heads_of(weight: Array, heads: int) -> Array:
    """[heads * h, d] as [d, heads, h]: element (d, n, h) is row n * head_dim + h, column d."""
    head_dim = weight.shape[0] // heads
    out = np.empty((weight.shape[1], heads, head_dim), weight.dtype)
    for n in range(heads):
        for h in range(head_dim):
            out[:, n, h] = weight[n * head_dim + h]
    return out


def heads_back(weight: Array, heads: int) -> Array:
    """[d, heads * h] as [heads, h, d]."""
    head_dim = weight.shape[1] // heads
    out = np.empty((heads, head_dim, weight.shape[0]), weight.dtype)
    for n in range(heads):
        for h in range(head_dim):
            out[n, h] = weight[:, n * head_dim + h]
    return out


# ---- jax-llm-examples ----------------------------------------------------------------------------------------------


def llama3_leaves(model: Model) -> Named:
    """In the order in which its Weights dataclass is flattened."""
    w, config = model.tensors, model.config
    for number in range(config["num_hidden_layers"]):
        hf, jax_name = f"model.layers.{number}.", f"weights.layers[{number}]."
        yield jax_name + "q", heads_of(w[hf + "self_attn.q_proj.weight"], config["num_attention_heads"])
        yield jax_name + "k", heads_of(w[hf + "self_attn.k_proj.weight"], config["num_key_value_heads"])
        yield jax_name + "v", heads_of(w[hf + "self_attn.v_proj.weight"], config["num_key_value_heads"])
        yield jax_name + "o", heads_back(w[hf + "self_attn.o_proj.weight"], config["num_attention_heads"])
        for name in ("gate", "up", "down"):
            yield jax_name + "w_" + name, w[f"{hf}mlp.{name}_proj.weight"].T
        yield jax_name + "attn_pre_gamma", w[hf + "input_layernorm.weight"]
        yield jax_name + "attn_post_gamma", w[hf + "post_attention_layernorm.weight"]
    yield "weights.embedding", w["model.embed_tokens.weight"]
    yield "weights.gamma_final", w["model.norm.weight"]
    yield "weights.lm_head", w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def gpt_oss_leaves(model: Model) -> Named:
    """The same for gpt-oss; gate and up stay interleaved."""
    w, config = model.tensors, model.config
    count = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"], "v": config["num_key_value_heads"]}
    for number in range(config["num_hidden_layers"]):
        hf, jax_name = f"model.layers.{number}.", f"weights.layers[{number}]."
        yield jax_name + "ffw.w_router", w[hf + "mlp.router.weight"].T
        yield jax_name + "ffw.w_router_bias", w[hf + "mlp.router.bias"]
        for name in ("gate_up", "down"):
            yield f"{jax_name}ffw.we_{name}", w[f"{hf}mlp.experts.{name}_proj"]
            yield f"{jax_name}ffw.we_{name}_bias", w[f"{hf}mlp.experts.{name}_proj_bias"]
        for name, heads in count.items():
            yield f"{jax_name}attn.{name}", heads_of(w[f"{hf}self_attn.{name}_proj.weight"], heads)
            yield f"{jax_name}attn.{name}_bias", w[f"{hf}self_attn.{name}_proj.bias"].reshape(heads, -1)
        yield jax_name + "attn.o", heads_back(w[hf + "self_attn.o_proj.weight"], count["q"])
        yield jax_name + "attn.o_bias", w[hf + "self_attn.o_proj.bias"]
        yield jax_name + "attn.sinks", w[hf + "self_attn.sinks"]
        yield jax_name + "attn_pre_gamma", w[hf + "input_layernorm.weight"]
        yield jax_name + "attn_post_gamma", w[hf + "post_attention_layernorm.weight"]
    yield "weights.embedding", w["model.embed_tokens.weight"]
    yield "weights.gamma_final", w["model.norm.weight"]
    yield "weights.lm_head", w["lm_head.weight"].T


def qwen3_leaves(model: Model) -> Named:
    """A tree, saved by Orbax; layers is a list. Without a head where embeddings are tied."""
    w, config = model.tensors, model.config
    for number in range(config["num_hidden_layers"]):
        hf, jax_name = f"model.layers.{number}.", f"layers/{number}/"
        yield jax_name + "attn/q", heads_of(w[hf + "self_attn.q_proj.weight"], config["num_attention_heads"])
        yield jax_name + "attn/k", heads_of(w[hf + "self_attn.k_proj.weight"], config["num_key_value_heads"])
        yield jax_name + "attn/v", heads_of(w[hf + "self_attn.v_proj.weight"], config["num_key_value_heads"])
        yield jax_name + "attn/o", heads_back(w[hf + "self_attn.o_proj.weight"], config["num_attention_heads"])
        yield jax_name + "attn/q_gamma", w[hf + "self_attn.q_norm.weight"]
        yield jax_name + "attn/k_gamma", w[hf + "self_attn.k_norm.weight"]
        yield jax_name + "attn_pre_gamma", w[hf + "input_layernorm.weight"]
        yield jax_name + "attn_post_gamma", w[hf + "post_attention_layernorm.weight"]
        for name in ("gate", "up", "down"):
            if "num_experts" in config:
                experts = [w[f"{hf}mlp.experts.{e}.{name}_proj.weight"].T for e in range(config["num_experts"])]
                yield f"{jax_name}ffw/we_{name}", np.stack(experts)
            else:
                yield f"{jax_name}ffw/w_{name}", w[f"{hf}mlp.{name}_proj.weight"].T
        if "num_experts" in config:
            yield jax_name + "ffw/w_router", w[hf + "mlp.gate.weight"].T
    yield "embedding", w["model.embed_tokens.weight"]
    yield "gamma_final", w["model.norm.weight"]
    if not config["tie_word_embeddings"]:
        yield "lm_head", w["lm_head.weight"].T


@BOTH
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_jax_llm_examples_llama3(tmp_path: Path, dtype: np.dtype[Any], tied: bool) -> None:
    model = tiny.llama(dtype, tied=tied, num_hidden_layers=11)
    found = joined(converted(model.write(tmp_path, 3), "jax-llm-examples/llama3"))
    wanted = dict(llama3_leaves(model))
    assert list(found) == list(wanted)  # leaves are taken by position
    assert_same_arrays(found, wanted)


@BOTH
def test_jax_llm_examples_gpt_oss(tmp_path: Path, dtype: np.dtype[Any]) -> None:
    model = tiny.gpt_oss(dtype, num_hidden_layers=11)
    found = joined(converted(model.write(tmp_path, 2), "jax-llm-examples/gpt-oss"))
    wanted = dict(gpt_oss_leaves(model))
    assert list(found) == list(wanted)
    assert_same_arrays(found, wanted)


@BOTH
@pytest.mark.parametrize("kind", ["dense", "tied", "tied with a head", "experts"])
def test_jax_llm_examples_qwen3(tmp_path: Path, dtype: np.dtype[Any], kind: str) -> None:
    model = tiny.qwen3_moe(dtype) if kind == "experts" else tiny.qwen3(dtype, tied="tied" in kind)
    if kind == "tied with a head":
        model = model.with_tensors(lm_head__weight=model.tensors["model.embed_tokens.weight"])
    result = applied(model.write(tmp_path), "jax-llm-examples/qwen3")
    assert_same_arrays(joined(result.arrays), dict(qwen3_leaves(model)))
    assert result.lists == {("layers",)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Qwen3Weights:
    """As in that project's model: shardings or arrays."""

    layers: list[Any]
    embedding: Any
    gamma_final: Any
    lm_head: Any  # None where embeddings are tied


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_jax_llm_examples_qwen3_is_restored_as_its_own_dataclass(tmp_path: Path, tied: bool) -> None:
    """Its load_pytree gives Orbax the tree of shardings, in which a tied head is None: such an entry must be there."""
    model = tiny.qwen3(BF16, tied=tied)
    done = run_command(model.write(tmp_path), "jax-llm-examples/qwen3", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    wanted = dict(qwen3_leaves(model))
    layers = nested({tuple(name.split("/")): array for name, array in wanted.items()})["layers"]
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    places = [jax.tree.map(lambda _: here, layers[str(i)]) for i in range(len(layers))]
    shardings = Qwen3Weights(places, here, here, None if tied else here)
    restore_args = jax.tree.map(lambda sharding: ocp.ArrayRestoreArgs(sharding=sharding), shardings)
    with ocp.PyTreeCheckpointer() as checkpointer:
        arguments = ocp.args.PyTreeRestore(item=shardings, transforms=None, restore_args=restore_args)
        found = checkpointer.restore(tmp_path / "out", args=arguments)
    assert (found.lm_head is None) == tied
    leaves = joined(dict(leaves_of(found.layers, ("layers",))))
    assert_same_arrays(leaves, {name: array for name, array in wanted.items() if name.startswith("layers/")})
    assert np.array_equal(found.embedding, wanted["embedding"])
    free = ocp.PyTreeCheckpointer().restore(tmp_path / "out")
    assert (free["lm_head"] is None) == tied


def test_encoded_experts_are_decoded_as_jax_llm_examples_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model = tiny.gpt_oss(BF16)
    tensors, experts = {}, {}
    for name, array in model.tensors.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = array
            continue
        count, _, outputs = array.shape
        tensors[name + "_blocks"] = rng.integers(0, 256, (count, outputs, 2, 16), np.uint8)
        tensors[name + "_scales"] = rng.integers(110, 140, (count, outputs, 2), np.uint8)
        experts[name] = expert_values(tensors[name + "_blocks"], tensors[name + "_scales"])
    source = Model(tensors, model.config).write(tmp_path)
    found = joined(converted(source, "jax-llm-examples/gpt-oss"))
    assert_same_arrays(found, dict(gpt_oss_leaves(Model(model.tensors | experts, model.config))))


def expert_values(blocks: Array, scales: Array) -> Array:
    """[experts, in, out] of MXFP4, code by code, as that project decodes: code 8 is +0."""
    values = np.zeros((blocks.shape[0], blocks.shape[2] * 32, blocks.shape[1]), ml_dtypes.bfloat16)
    for e, o, b, byte in np.ndindex(blocks.shape):
        for high in range(2):
            code = int(blocks[e, o, b, byte]) >> 4 * high & 15
            exponent, mantissa = code >> 1 & 3, code & 1
            size = mantissa * 0.5 if exponent == 0 else (1 + mantissa * 0.5) * 2.0 ** (exponent - 1)
            sign = -1.0 if code > 8 else 1.0
            values[e, b * 32 + byte * 2 + high, o] = sign * size * 2.0 ** (int(scales[e, o, b]) - 127)
    return values


def test_the_decoder_of_these_tests_knows_both_zeros() -> None:
    blocks = np.arange(256, dtype=np.uint8).reshape(1, 8, 2, 16)
    scales = np.full((1, 8, 2), 130, np.uint8)
    assert decoded_mxfp4(blocks, scales, True).tobytes() == expert_values(blocks, scales).tobytes()
    signed = decoded_mxfp4(blocks, scales, False)
    assert np.array_equal(signed, expert_values(blocks, scales))
    assert np.signbit(signed[signed == 0].astype(np.float32)).any()


# ---- Bonsai --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_bonsai_qwen3(tmp_path: Path, dtype: np.dtype[Any], tied: bool) -> None:
    model = tiny.qwen3(dtype, tied=tied)
    w, config = model.tensors, model.config
    wanted = {"embedder/embedding": w["model.embed_tokens.weight"], "final_norm/scale": w["model.norm.weight"]}
    wanted["lm_head/kernel"] = w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
    for number in range(config["num_hidden_layers"]):
        hf, layer = f"model.layers.{number}.", f"layers/{number}/"
        for name, heads in (("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")):
            wanted[f"{layer}attn/{name}_proj/kernel"] = heads_of(w[f"{hf}self_attn.{name}_proj.weight"], config[heads])
        wanted[layer + "attn/o_proj/kernel"] = heads_back(
            w[hf + "self_attn.o_proj.weight"], config["num_attention_heads"]
        )
        for name in ("q", "k"):
            wanted[f"{layer}attn/{name}_norm/scale"] = w[f"{hf}self_attn.{name}_norm.weight"]
        for name in ("input", "post_attention"):
            wanted[f"{layer}{name}_layernorm/scale"] = w[f"{hf}{name}_layernorm.weight"]
        for name in ("gate", "up", "down"):
            wanted[f"{layer}mlp/{name}_proj/kernel"] = w[f"{hf}mlp.{name}_proj.weight"].T
    assert_same_arrays(joined(converted(model.write(tmp_path), "bonsai/qwen3")), wanted)


# ---- plain Linen ---------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Named as Hugging Face names its parts."""

    config: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        c = self.config
        h = c["head_dim"]
        with_bias = c["model_type"] == "qwen2"
        parts = {}
        for name, heads in (("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")):
            part = nn.Dense(c[heads] * h, use_bias=with_bias, name=f"{name}_proj")(x).reshape(*x.shape[:2], c[heads], h)
            if c["model_type"] == "qwen3" and name != "v":
                part = nn.RMSNorm(epsilon=c["rms_norm_eps"], name=f"{name}_norm")(part)
            parts[name] = part if name == "v" else rotated(part, c.get("rope_theta", 10000.0))
        repeats = c["num_attention_heads"] // c["num_key_value_heads"]
        k, v = (jnp.repeat(parts[name], repeats, 2) for name in ("k", "v"))
        mask = nn.make_causal_mask(jnp.ones(x.shape[:2]))
        out = nn.dot_product_attention(parts["q"], k, v, mask=mask)
        return nn.Dense(x.shape[-1], use_bias=False, name="o_proj")(out.reshape(*x.shape[:2], -1))


class Gated(nn.Module):
    """The MLP."""

    config: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        width = self.config["intermediate_size"]
        gate = nn.Dense(width, use_bias=False, name="gate_proj")(x)
        up = nn.Dense(width, use_bias=False, name="up_proj")(x)
        return nn.Dense(x.shape[-1], use_bias=False, name="down_proj")(nn.silu(gate) * up)


class Layer(nn.Module):
    """Attention, then the MLP."""

    config: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        epsilon = self.config["rms_norm_eps"]
        x = x + Attention(self.config, name="self_attn")(nn.RMSNorm(epsilon=epsilon, name="input_layernorm")(x))
        return x + Gated(self.config, name="mlp")(nn.RMSNorm(epsilon=epsilon, name="post_attention_layernorm")(x))


class Llama(nn.Module):
    """What somebody writes on an afternoon."""

    config: Any

    @nn.compact
    def __call__(self, ids: Any) -> Any:
        c = self.config
        table = nn.Embed(c["vocab_size"], c["hidden_size"], name="embed_tokens")
        x = table(ids)
        for number in range(c["num_hidden_layers"]):
            x = Layer(c, name=f"layers_{number}")(x)
        x = nn.RMSNorm(epsilon=c["rms_norm_eps"], name="norm")(x)
        if c["tie_word_embeddings"]:
            return table.attend(x)
        return nn.Dense(c["vocab_size"], use_bias=False, name="lm_head")(x)


def rotated(x: Any, base: float) -> Any:
    """Rotary positions, halves."""
    half = x.shape[-1] // 2
    angles = (np.arange(x.shape[1])[:, None] / base ** (np.arange(half) / half))[:, None]
    cos, sin = jnp.asarray(np.cos(angles), x.dtype), jnp.asarray(np.sin(angles), x.dtype)
    real, imaginary = x[..., :half], x[..., half:]
    return jnp.concatenate([real * cos - imaginary * sin, imaginary * cos + real * sin], -1)


def linen_logits(source: Path, config: dict[str, Any], ids: Array) -> Array:
    """With what the map gives, in float32; a name or shape that does not fit is Flax's error."""
    tree = nested(converted(source, "flax-linen/llama", "float32"))
    return np.asarray(Llama(config).apply(tree, ids))


def test_a_plain_linen_model_calculates_torchs_logits() -> None:
    source = ROOT / "tests" / "data" / "models" / "llama_gqa_bf16_sharded"
    reference = np.load(source / "ref.npz")
    config = json.loads((source / "config.json").read_text())
    assert_same_logits(linen_logits(source, config, reference["input_ids"]), reference["logits"])


@pytest.mark.parametrize("kind", ["llama", "tied", "qwen2", "qwen3"])
def test_plain_linen_models_calculate_the_same_logits(tmp_path: Path, kind: str) -> None:
    make = {"qwen2": tiny.qwen2, "qwen3": tiny.qwen3}.get(kind, tiny.llama)
    model = make(F32, tied=kind == "tied")
    ids = np.array([[3, 17, 9, 100, 1, 44, 5, 99], [5, 5, 6, 20, 31, 77, 2, 11]], np.int32)
    found = linen_logits(model.write(tmp_path), model.config, ids)
    assert_same_logits(found, llama_logits(model.tensors, model.config, ids))


def test_a_plain_linen_tree_has_the_leaves_that_the_model_has(tmp_path: Path) -> None:
    model = tiny.qwen3(BF16)
    tree = nested(converted(model.write(tmp_path), "flax-linen/llama"))
    shapes = jax.eval_shape(Llama(model.config).init, jax.random.key(0), np.zeros((1, 4), np.int32))
    assert jax.tree.map(lambda leaf: leaf.shape, tree) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert len(read_checkpoint(tmp_path)) == len(jax.tree.leaves(tree))

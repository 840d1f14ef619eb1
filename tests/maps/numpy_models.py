# SPDX-License-Identifier: MIT
# mypy: disable-error-code="no-any-return"
"""Three models in float64 NumPy, straight from their definition: what logits should be.

Weights are taken by their Hugging Face names, so nothing here knows of maps. One of them, Llama, is compared with
torch's logits in tests/data (test_logits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]


def rms_norm(x: Array, scale: Array, epsilon: float) -> Array:
    """Root mean square of the last axis to 1, then scaled."""
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon) * scale


def layer_norm(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Mean 0 and variance 1 along the last axis, then scaled and moved."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred * centred, -1, keepdims=True) + epsilon) * scale + bias


def softmax(x: Array) -> Array:
    """Along the last axis."""
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def attention(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """[batch, length, heads, head_dim]; k and v may have fewer heads, each for a run of q's."""
    k, v = (np.repeat(x, q.shape[2] // k.shape[2], 2) for x in (k, v))
    scores = np.einsum("bqnh,bknh->bnqk", q, k) / np.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf)
    out = np.einsum("bnqk,bknh->bqnh", softmax(scores), v)
    return out.reshape(*out.shape[:2], -1)


def rotated(x: Array, base: float) -> Array:
    """Rotary positions, halves: the second half of a head is the imaginary part of the first."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / base ** (np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    real, imaginary = x[..., :half], x[..., half:]
    return np.concatenate([real * cos - imaginary * sin, imaginary * cos + real * sin], -1)


def gelu_new(x: Array) -> Array:
    """The one with tanh."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def wide(weights: Weights) -> dict[str, Array]:
    """In float64."""
    return {name: array.astype(np.float64) for name, array in weights.items()}


def llama_logits(weights: Weights, config: Mapping[str, Any], ids: Array) -> Array:
    """Llama, Mistral (shorter than its window), Qwen2, Qwen3."""
    w, epsilon = wide(weights), config["rms_norm_eps"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    x = w["model.embed_tokens.weight"][ids]
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}."
        y = rms_norm(x, w[layer + "input_layernorm.weight"], epsilon)
        heads = {}
        for p in "qkv":
            out = y @ w[f"{layer}self_attn.{p}_proj.weight"].T + w.get(f"{layer}self_attn.{p}_proj.bias", 0)
            out = out.reshape(*out.shape[:2], -1, head_dim)
            scale = w.get(f"{layer}self_attn.{p}_norm.weight")
            out = out if scale is None else rms_norm(out, scale, epsilon)
            heads[p] = out if p == "v" else rotated(out, config.get("rope_theta", 10000.0))
        x = x + attention(heads["q"], heads["k"], heads["v"], True) @ w[layer + "self_attn.o_proj.weight"].T
        y = rms_norm(x, w[layer + "post_attention_layernorm.weight"], epsilon)
        gate, up = (y @ w[f"{layer}mlp.{p}_proj.weight"].T for p in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[layer + "mlp.down_proj.weight"].T
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return rms_norm(x, w["model.norm.weight"], epsilon) @ head.T


def gpt2_logits(weights: Weights, config: Mapping[str, Any], ids: Array) -> Array:
    """GPT-2 with a tied head."""
    w = {name.removeprefix("transformer."): array for name, array in wide(weights).items()}

    def dense(x: Array, name: str) -> Array:
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def norm(x: Array, name: str) -> Array:
        return layer_norm(x, w[name + ".weight"], w[name + ".bias"], 1e-5)

    x = w["wte.weight"][ids] + w["wpe.weight"][: ids.shape[1]]
    for number in range(config["n_layer"]):
        layer = f"h.{number}."
        qkv = dense(norm(x, layer + "ln_1"), layer + "attn.c_attn")
        q, k, v = (part.reshape(*ids.shape, config["n_head"], -1) for part in np.split(qkv, 3, -1))
        x = x + dense(attention(q, k, v, True), layer + "attn.c_proj")
        x = x + dense(gelu_new(dense(norm(x, layer + "ln_2"), layer + "mlp.c_fc")), layer + "mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def bert_hidden(weights: Weights, config: Mapping[str, Any], ids: Array) -> Array:
    """BERT's last hidden state; all tokens are of type 0 and seen by all. The activation is gelu_new."""
    w = wide(weights)

    def dense(x: Array, name: str) -> Array:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x: Array, name: str) -> Array:
        return layer_norm(x, w[name + ".LayerNorm.weight"], w[name + ".LayerNorm.bias"], 1e-12)

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + w["embeddings.position_embeddings.weight"][: ids.shape[1]], "embeddings")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}."
        q, k, v = (
            dense(x, f"{layer}attention.self.{p}").reshape(*ids.shape, config["num_attention_heads"], -1)
            for p in ("query", "key", "value")
        )
        y = dense(attention(q, k, v, False), layer + "attention.output.dense")
        x = norm(x + y, layer + "attention.output")
        y = dense(gelu_new(dense(x, layer + "intermediate.dense")), layer + "output.dense")
        x = norm(x + y, layer + "output")
    return x


def assert_same_logits(found: Array, wanted: Array, limit: float = 1e-5) -> None:
    """The same word is the likeliest everywhere, and nothing differs by more than `limit` of the largest value."""
    assert found.shape == wanted.shape
    assert np.array_equal(found.argmax(-1), wanted.argmax(-1))
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert difference < limit, difference

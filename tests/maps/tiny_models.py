# SPDX-License-Identifier: MIT
"""Checkpoints of a few kilobytes in the names and shapes of real ones, with random values.

All sizes differ, so that an axis in a wrong place has a wrong size; where a project insists on equal ones the model
says so. A model is its tensors and its config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray[Any, Any]
BF16 = np.dtype(ml_dtypes.bfloat16)
F32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Model:
    """Tensors by name, and config.json."""

    tensors: dict[str, Array]
    config: dict[str, Any]

    def write(self, folder: Path, files: int = 1) -> Path:
        """As a checkpoint folder: one file, or several and their index."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2))
        if files == 1:
            save_file(self.tensors, folder / "model.safetensors", {"format": "pt"})
            return folder
        names = list(self.tensors)
        weight_map: dict[str, str] = {}
        for number in range(files):
            file = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
            part = {name: self.tensors[name] for name in names[number::files]}
            save_file(part, folder / file, {"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return folder

    def renamed(self, old: str, new: str) -> Model:
        """With another start of the names that start so."""
        tensors = {
            new + name[len(old) :] if name.startswith(old) else name: array for name, array in self.tensors.items()
        }
        return Model(tensors, self.config)

    def with_tensors(self, **arrays: Array) -> Model:
        """With some tensors more; "__" stands for "."."""
        return Model(self.tensors | {name.replace("__", "."): array for name, array in arrays.items()}, self.config)


@dataclass
class Maker:
    """Random tensors of one dtype."""

    dtype: np.dtype[Any]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(20261123))
    tensors: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, *shape: int) -> None:
        """Values as weights have them, of every rounding."""
        self.tensors[name] = (self.rng.standard_normal(shape) * 0.3).astype(self.dtype)


def decoder_layers(make: Maker, config: dict[str, Any], prefix: str = "model.") -> Iterator[str]:
    """What all decoders share: the table, norms, attention. Gives the start of each layer's names."""
    d, h = config["hidden_size"], config["head_dim"]
    n, k = config["num_attention_heads"], config["num_key_value_heads"]
    make.add(prefix + "embed_tokens.weight", config["vocab_size"], d)
    make.add(prefix + "norm.weight", d)
    for number in range(config["num_hidden_layers"]):
        layer = f"{prefix}layers.{number}."
        make.add(layer + "input_layernorm.weight", d)
        make.add(layer + "post_attention_layernorm.weight", d)
        for name, heads in (("q", n), ("k", k), ("v", k)):
            make.add(layer + f"self_attn.{name}_proj.weight", heads * h, d)
        make.add(layer + "self_attn.o_proj.weight", d, n * h)
        yield layer


def dense_mlp(make: Maker, layer: str, config: dict[str, Any]) -> None:
    """Gate, up and down."""
    d, f = config["hidden_size"], config["intermediate_size"]
    for name, shape in (("gate", (f, d)), ("up", (f, d)), ("down", (d, f))):
        make.add(layer + f"mlp.{name}_proj.weight", *shape)


SIZES: dict[str, Any] = {
    "vocab_size": 112,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 24,  # FlaxMistral makes a mask of its square
    "tie_word_embeddings": False,
}


def llama(
    dtype: np.dtype[Any] = BF16, *, tied: bool = False, architecture: str = "LlamaForCausalLM", **sizes: Any
) -> Model:
    """Llama, Mistral, Gemma: attention and a gated MLP without biases."""
    config = SIZES | {"architectures": [architecture], "model_type": "llama", "tie_word_embeddings": tied} | sizes
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        dense_mlp(make, layer, config)
    if not tied:
        make.add("lm_head.weight", config["vocab_size"], config["hidden_size"])
    return Model(make.tensors, config)


def qwen2(dtype: np.dtype[Any] = BF16, *, tied: bool = False, **sizes: Any) -> Model:
    """Qwen2 and Qwen2.5: Llama with biases of q, k and v."""
    config = SIZES | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": tied} | sizes
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        dense_mlp(make, layer, config)
        for name, heads in (("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")):
            make.add(layer + f"self_attn.{name}_proj.bias", config[heads] * config["head_dim"])
    if not tied:
        make.add("lm_head.weight", config["vocab_size"], config["hidden_size"])
    return Model(make.tensors, config)


def qwen3(dtype: np.dtype[Any] = BF16, *, tied: bool = False, **sizes: Any) -> Model:
    """Qwen3: Llama with norms of q and k."""
    config = SIZES | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "tie_word_embeddings": tied} | sizes
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        dense_mlp(make, layer, config)
        make.add(layer + "self_attn.q_norm.weight", config["head_dim"])
        make.add(layer + "self_attn.k_norm.weight", config["head_dim"])
    if not tied:
        make.add("lm_head.weight", config["vocab_size"], config["hidden_size"])
    return Model(make.tensors, config)


def qwen3_moe(dtype: np.dtype[Any] = BF16, **sizes: Any) -> Model:
    """Qwen3 with experts, one tensor each."""
    config = SIZES | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"}
    config |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True} | sizes
    d, f = config["hidden_size"], config["moe_intermediate_size"]
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        make.add(layer + "self_attn.q_norm.weight", config["head_dim"])
        make.add(layer + "self_attn.k_norm.weight", config["head_dim"])
        make.add(layer + "mlp.gate.weight", config["num_experts"], d)
        for expert in range(config["num_experts"]):
            for name, shape in (("gate", (f, d)), ("up", (f, d)), ("down", (d, f))):
                make.add(layer + f"mlp.experts.{expert}.{name}_proj.weight", *shape)
    make.add("lm_head.weight", config["vocab_size"], d)
    return Model(make.tensors, config)


def mixtral(dtype: np.dtype[Any] = BF16, **sizes: Any) -> Model:
    """Mixtral: Llama with experts w1, w2, w3."""
    config = SIZES | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
    config |= {"num_local_experts": 4, "num_experts_per_tok": 2} | sizes
    d, f = config["hidden_size"], config["intermediate_size"]
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        make.add(layer + "block_sparse_moe.gate.weight", config["num_local_experts"], d)
        for expert in range(config["num_local_experts"]):
            for name, shape in (("w1", (f, d)), ("w2", (d, f)), ("w3", (f, d))):
                make.add(layer + f"block_sparse_moe.experts.{expert}.{name}.weight", *shape)
    make.add("lm_head.weight", config["vocab_size"], d)
    return Model(make.tensors, config)


def gpt_oss(dtype: np.dtype[Any] = BF16, **sizes: Any) -> Model:
    """gpt-oss with experts that are not encoded: biases everywhere, gate and up interleaved."""
    config = SIZES | {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "num_hidden_layers": 4}
    config |= {"num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 24} | sizes
    d, f, e = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    n, k, h = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        for name, size in (("q", n * h), ("k", k * h), ("v", k * h), ("o", d)):
            make.add(layer + f"self_attn.{name}_proj.bias", size)
        make.add(layer + "self_attn.sinks", n)
        make.add(layer + "mlp.router.weight", e, d)
        make.add(layer + "mlp.router.bias", e)
        make.add(layer + "mlp.experts.gate_up_proj", e, d, 2 * f)
        make.add(layer + "mlp.experts.gate_up_proj_bias", e, 2 * f)
        make.add(layer + "mlp.experts.down_proj", e, f, d)
        make.add(layer + "mlp.experts.down_proj_bias", e, d)
    make.add("lm_head.weight", config["vocab_size"], d)
    return Model(make.tensors, config)


def gemma(dtype: np.dtype[Any] = BF16, **sizes: Any) -> Model:
    """The first Gemma: Llama with a tied head and heads wider than the model is."""
    return llama(dtype, tied=True, architecture="GemmaForCausalLM", **({"model_type": "gemma"} | sizes))


def gemma2(dtype: np.dtype[Any] = BF16, **sizes: Any) -> Model:
    """Gemma 2: four norms a layer."""
    config = SIZES | {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "num_hidden_layers": 4} | sizes
    make = Maker(dtype)
    for layer in decoder_layers(make, config):
        dense_mlp(make, layer, config)
        for name in ("pre", "post"):
            make.add(layer + f"{name}_feedforward_layernorm.weight", config["hidden_size"])
    return Model(make.tensors, config)


def gemma3(dtype: np.dtype[Any] = BF16, *, prefix: str = "model.", **sizes: Any) -> Model:
    """Gemma 3, the text part: four norms a layer, norms of q and k."""
    config = SIZES | {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"} | sizes
    make = Maker(dtype)
    for layer in decoder_layers(make, config, prefix):
        dense_mlp(make, layer, config)
        for name in ("pre", "post"):
            make.add(layer + f"{name}_feedforward_layernorm.weight", config["hidden_size"])
        make.add(layer + "self_attn.q_norm.weight", config["head_dim"])
        make.add(layer + "self_attn.k_norm.weight", config["head_dim"])
    return Model(make.tensors, config)


def gpt2(dtype: np.dtype[Any] = F32, prefix: str = "transformer.", **sizes: Any) -> Model:
    """GPT-2: kernels that are transposed already (Conv1D)."""
    config: dict[str, Any] = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 112,
        "n_embd": 32,
    }
    config |= {"n_layer": 2, "n_head": 4, "n_positions": 24, "n_inner": 40} | sizes
    d, f = config["n_embd"], config["n_inner"]
    make = Maker(dtype)
    make.add(prefix + "wte.weight", config["vocab_size"], d)
    make.add(prefix + "wpe.weight", config["n_positions"], d)
    for name in ("ln_f.weight", "ln_f.bias"):
        make.add(prefix + name, d)
    for number in range(config["n_layer"]):
        layer = f"{prefix}h.{number}."
        for norm in ("ln_1", "ln_2"):
            make.add(layer + norm + ".weight", d)
            make.add(layer + norm + ".bias", d)
        for name, inputs, outputs in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, f),
            ("mlp.c_proj", f, d),
        ):
            make.add(layer + name + ".weight", inputs, outputs)
            make.add(layer + name + ".bias", outputs)
    return Model(make.tensors, config)


BERT_HEADS = {
    "BertModel": ("pooler",),
    "BertForMaskedLM": ("words",),
    "BertForPreTraining": ("pooler", "words", "cls.seq_relationship"),
    "BertForSequenceClassification": ("pooler", "classifier"),
    "BertForTokenClassification": ("classifier",),
    "BertForQuestionAnswering": ("qa_outputs",),
}


def bert(dtype: np.dtype[Any] = F32, architecture: str = "BertModel", **sizes: Any) -> Model:
    """BERT, alone or with a head."""
    config: dict[str, Any] = {"architectures": [architecture], "model_type": "bert", "hidden_act": "gelu_new"}
    config |= {"vocab_size": 112, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "max_position_embeddings": 24, "type_vocab_size": 2} | sizes
    d, f = config["hidden_size"], config["intermediate_size"]
    prefix, heads = "" if architecture == "BertModel" else "bert.", BERT_HEADS[architecture]
    make = Maker(dtype)

    def dense(name: str, inputs: int, outputs: int) -> None:
        make.add(name + ".weight", outputs, inputs)
        make.add(name + ".bias", outputs)

    def norm(name: str) -> None:
        make.add(name + ".weight", d)
        make.add(name + ".bias", d)

    for name, size in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        make.add(f"{prefix}embeddings.{name}_embeddings.weight", config[size], d)
    norm(prefix + "embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layer.{number}."
        for name in ("query", "key", "value"):
            dense(layer + "attention.self." + name, d, d)
        dense(layer + "attention.output.dense", d, d)
        norm(layer + "attention.output.LayerNorm")
        dense(layer + "intermediate.dense", d, f)
        dense(layer + "output.dense", f, d)
        norm(layer + "output.LayerNorm")
    for head in heads:
        if head == "pooler":
            dense(prefix + "pooler.dense", d, d)
        elif head == "words":
            make.add("cls.predictions.bias", config["vocab_size"])
            dense("cls.predictions.transform.dense", d, d)
            norm("cls.predictions.transform.LayerNorm")
        else:
            dense(head, d, 2)
    return Model(make.tensors, config)

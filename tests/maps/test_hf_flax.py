# SPDX-License-Identifier: MIT
"""The maps hf-flax/*: leaf by leaf what transformers 4 makes of the same tensors, and what its models calculate."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
from flax.traverse_util import flatten_dict
from numpy_models import assert_same_logits, bert_hidden, gpt2_logits, llama_logits
from presets import ROOT, Array, assert_same_arrays, converted, joined, nested, read_checkpoint
from tiny_models import BF16, F32, Model

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", "4.57", reason="no transformers 4, the last with Flax classes")

IDS = np.array([[3, 17, 9, 100, 1, 44, 5, 99, 12, 60, 7, 8], [5, 5, 6, 20, 31, 77, 2, 11, 4, 90, 23, 111]], np.int32)
SQUARE = {"num_attention_heads": 4, "head_dim": 8}  # FlaxLlama and FlaxMistral: all heads together are as wide as x
Make = Callable[[np.dtype[Any]], Model]
CASES: dict[str, tuple[str, str, Make]] = {  # map, class, model
    "llama": ("llama", "FlaxLlamaForCausalLM", lambda dtype: tiny.llama(dtype, **SQUARE)),
    "mistral": ("mistral", "FlaxMistralForCausalLM", lambda dtype: tiny.llama(dtype, **SQUARE, model_type="mistral")),
    "gemma": ("gemma", "FlaxGemmaForCausalLM", lambda dtype: tiny.gemma(dtype, num_attention_heads=4)),
    "gpt2": ("gpt2", "FlaxGPT2LMHeadModel", tiny.gpt2),
    "gpt2 alone": ("gpt2", "FlaxGPT2Model", lambda dtype: tiny.gpt2(dtype, prefix="")),
} | {
    name: ("bert", f"Flax{name}", lambda dtype, name=name: tiny.bert(dtype, name))  # type: ignore[misc]
    for name in tiny.BERT_HEADS
}


def flax_model(class_name: str, config: dict[str, Any]) -> Any:
    """A model with random parameters, to be given ours."""
    cls = getattr(transformers, class_name)
    return cls(cls.config_class(**config))


def flat(tree: Any) -> dict[str, Array]:
    """By paths with "/" between keys."""
    return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(tree).items()}


@pytest.mark.parametrize("dtype", [F32, BF16], ids=["f32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_leaves_are_those_of_transformers(tmp_path: Path, case: str, dtype: np.dtype[Any]) -> None:
    preset, class_name, make = CASES[case]
    tiny_model = make(dtype)
    model = flax_model(class_name, tiny_model.config)
    from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax

    wanted = flat(convert_pytorch_state_dict_to_flax(dict(tiny_model.tensors), model))
    found = joined(converted(tiny_model.write(tmp_path / "source"), f"hf-flax/{preset}"))
    if class_name == "FlaxGPT2Model":  # both load: from_pretrained takes the prefix off
        found = {name.removeprefix("transformer/"): array for name, array in found.items()}
    assert_same_arrays(found, wanted)
    shapes = {name: array.shape for name, array in flat(model.params).items()}
    assert {name: array.shape for name, array in found.items()} == shapes


def saved(folder: Path, source: Path, preset: str) -> Path:
    """A folder as from_pretrained wants it."""
    from flax.serialization import msgpack_serialize

    folder.mkdir()
    (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(nested(converted(source, preset))))
    (folder / "config.json").write_text((source / "config.json").read_text())
    return folder


def test_llama_calculates_torchs_logits(tmp_path: Path) -> None:
    source = ROOT / "tests" / "data" / "models" / "llama_gqa_bf16_sharded"
    reference = np.load(source / "ref.npz")
    folder = saved(tmp_path / "out", source, "hf-flax/llama")
    model = transformers.FlaxLlamaForCausalLM.from_pretrained(folder)
    found = np.asarray(model(reference["input_ids"]).logits)
    assert_same_logits(found, reference["logits"])
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "rms_norm_eps": 1e-6}
    # The models that the other maps are compared with are right, too.
    ours = llama_logits(read_checkpoint(source), config, reference["input_ids"])
    assert_same_logits(ours, reference["logits"])


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_llama_and_mistral_calculate_the_same_logits(tmp_path: Path, family: str, tied: bool) -> None:
    tiny_model = tiny.llama(F32, tied=tied, model_type=family, **SQUARE)
    source = tiny_model.write(tmp_path / "source")
    cls = {"llama": "FlaxLlamaForCausalLM", "mistral": "FlaxMistralForCausalLM"}[family]
    model = getattr(transformers, cls).from_pretrained(saved(tmp_path / "out", source, f"hf-flax/{family}"))
    assert_same_logits(np.asarray(model(IDS).logits), llama_logits(tiny_model.tensors, tiny_model.config, IDS))


@pytest.mark.parametrize("prefix", ["", "transformer."], ids=["bare", "prefixed"])
def test_gpt2_calculates_the_same_logits(tmp_path: Path, prefix: str) -> None:
    tiny_model = tiny.gpt2(F32, prefix=prefix)
    masks = {f"{prefix}h.0.attn.bias": np.tri(24, dtype=np.float32).reshape(1, 1, 24, 24)}
    source = Model(tiny_model.tensors | masks, tiny_model.config).write(tmp_path / "source")
    model = transformers.FlaxGPT2LMHeadModel.from_pretrained(saved(tmp_path / "out", source, "hf-flax/gpt2"))
    assert_same_logits(np.asarray(model(IDS).logits), gpt2_logits(tiny_model.tensors, tiny_model.config, IDS))


def test_bert_calculates_the_same_hidden_states(tmp_path: Path) -> None:
    tiny_model = tiny.bert(F32)
    positions = {"embeddings.position_ids": np.arange(24).reshape(1, 24)}
    source = Model(tiny_model.tensors | positions, tiny_model.config).write(tmp_path / "source")
    model = transformers.FlaxBertModel.from_pretrained(saved(tmp_path / "out", source, "hf-flax/bert"))
    found = np.asarray(model(IDS).last_hidden_state)
    assert_same_logits(found, bert_hidden(tiny_model.tensors, tiny_model.config, IDS))

# SPDX-License-Identifier: MIT
"""All maps that are shipped: what each must say of itself, and what none may do to the odd checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
from map_language import parse
from presets import MAPS, assert_same_arrays, converted, joined, refused
from tiny_models import BF16, Model

NAMES = sorted(f"{path.parent.name}/{path.stem}" for path in MAPS.rglob("*.json"))
MODELS: dict[str, Any] = {
    "bert": tiny.bert,
    "gemma": tiny.gemma,
    "gemma2": tiny.gemma2,
    "gemma3": lambda: tiny.gemma3(num_hidden_layers=12, maxtext_vocab_size=112),
    "gpt-oss": tiny.gpt_oss,
    "gpt2": tiny.gpt2,
    "llama": tiny.llama,
    "llama3": tiny.llama,
    "mistral": tiny.llama,
    "mixtral": tiny.mixtral,
    "qwen2": tiny.qwen2,
    "qwen3": tiny.qwen3,
    "qwen3-moe": tiny.qwen3_moe,
}
TIES = ["maxtext/llama", "maxtext/qwen3", "maxtext-unscanned/qwen2", "tunix/qwen3", "tunix/llama3"]
TIES += ["jax-llm-examples/qwen3", "flax-linen/llama"]


def model_of(preset: str) -> Model:
    """One that the preset is for."""
    model = MODELS[preset.split("/")[1]]()
    assert isinstance(model, Model)
    return model


def tied_of(preset: str) -> Model:
    """With a tied head."""
    make = {"qwen2": tiny.qwen2, "qwen3": tiny.qwen3}.get(preset.split("/")[1], tiny.llama)
    return make(tied=True)


@pytest.mark.parametrize("preset", NAMES)
def test_a_preset_says_what_it_is_and_is_for(preset: str) -> None:
    text = (MAPS / f"{preset}.json").read_text()
    assert text.isascii()
    body = parse(text).body
    assert body["name"] == preset
    assert body["description"].isascii()
    assert body["architectures"]
    assert body["output"]["format"] in ("orbax", "msgpack", "jax")
    lines = text.splitlines()
    assert all(line == line.rstrip() and "\t" not in line for line in lines)
    starts = [line for line in lines if line.startswith("    {")]
    assert len(starts) == len(body["rules"])  # a rule begins a line


@pytest.mark.parametrize("preset", NAMES)
def test_every_tensor_finds_its_place_once(tmp_path: Path, preset: str) -> None:
    model = model_of(preset)
    arrays = converted(model.write(tmp_path, 2), preset)
    elements = sum(array.size for array in arrays.values())
    source = sum(array.size for array in model.tensors.values())
    if preset.endswith("/gemma2") and "maxtext" in preset:
        source += 128 * model.config["hidden_size"]  # padding
    assert elements == source


@pytest.mark.parametrize(
    "preset", [name for name in NAMES if name.split("/")[1] in ("llama", "llama3", "mistral", "qwen2")]
)
def test_frequencies_of_old_checkpoints_are_dropped(tmp_path: Path, preset: str) -> None:
    model = model_of(preset)
    wanted = converted(model.write(tmp_path / "new"), preset)
    frequencies = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": np.ones(5, np.float32) for n in range(3)}
    old = Model(model.tensors | frequencies, model.config).write(tmp_path / "old")
    assert_same_arrays(joined(converted(old, preset)), joined(wanted))


@pytest.mark.parametrize("preset", TIES)
def test_a_tied_head_that_is_in_the_file_is_dropped_if_it_is_the_table(tmp_path: Path, preset: str) -> None:
    model = tied_of(preset)
    wanted = converted(model.write(tmp_path / "without"), preset)
    table = model.tensors["model.embed_tokens.weight"]
    same = model.with_tensors(lm_head__weight=table).write(tmp_path / "with")
    assert_same_arrays(joined(converted(same, preset)), joined(wanted))
    other = model.with_tensors(lm_head__weight=table[::-1].copy()).write(tmp_path / "other")
    assert refused(other, preset) == {"E13"}


@pytest.mark.parametrize("preset", ["hf-flax/llama", "hf-flax/mistral", "jax-llm-examples/llama3", "bonsai/qwen3"])
def test_a_target_without_ties_gets_the_table_as_head(tmp_path: Path, preset: str) -> None:
    model = tied_of(preset)
    found = joined(converted(model.write(tmp_path), preset))
    (head,) = (array for name, array in found.items() if "lm_head" in name)
    assert head.tobytes() == model.tensors["model.embed_tokens.weight"].T.tobytes()


@pytest.mark.parametrize("preset", ["maxtext/gemma3", "maxtext-unscanned/gemma3", "tunix/gemma3"])
@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_gemma3_with_eyes_is_its_text_part(tmp_path: Path, preset: str, prefix: str) -> None:
    text = model_of(preset)
    wanted = converted(text.write(tmp_path / "text"), preset)
    start = "model." if prefix.startswith("model.") else ""
    eyes = {
        f"{start}vision_tower.vision_model.embeddings.patch_embedding.weight": (4, 3, 2, 2),
        f"{start}vision_tower.vision_model.embeddings.position_embedding.weight": (6, 4),
        f"{start}vision_tower.vision_model.encoder.layers.0.layer_norm1.bias": (4,),
        f"{start}vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight": (8, 4),
        f"{start}vision_tower.vision_model.encoder.layers.0.self_attn.out_proj.weight": (4, 4),
        f"{start}vision_tower.vision_model.post_layernorm.weight": (4,),
        f"{start}multi_modal_projector.mm_input_projection_weight": (4, 32),
        f"{start}multi_modal_projector.mm_soft_emb_norm.weight": (4,),
    }
    renamed = text.renamed("model.", prefix)
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text.config}
    config["maxtext_vocab_size"] = 112
    whole = renamed.tensors | {name: np.ones(shape, BF16) for name, shape in eyes.items()}
    found = converted(Model(whole, config).write(tmp_path / "whole"), preset)
    assert_same_arrays(joined(found), joined(wanted))


def test_scanned_gemma3_with_layers_left_over_is_refused(tmp_path: Path) -> None:
    source = tiny.gemma3(num_hidden_layers=8, maxtext_vocab_size=112).write(tmp_path)
    assert refused(source, "maxtext/gemma3") == {"E07"}
    assert converted(source, "maxtext-unscanned/gemma3")


@pytest.mark.parametrize("preset", NAMES)
def test_a_tensor_that_nobody_knows_is_an_error(tmp_path: Path, preset: str) -> None:
    model = model_of(preset).with_tensors(model__layers__0__surprise=np.zeros(3, BF16))
    assert refused(model.write(tmp_path), preset) == {"E01"}


@pytest.mark.parametrize("preset", [name for name in NAMES if name.startswith("maxtext/")])
def test_a_layer_that_is_missing_is_an_error(tmp_path: Path, preset: str) -> None:
    model = model_of(preset)
    first = "model.layers.0."
    tensors = {name: array for name, array in model.tensors.items() if not name.startswith(first)}
    assert refused(Model(tensors, model.config).write(tmp_path), preset) == {"E04"}


def test_bert_of_old_releases_has_gamma_and_beta(tmp_path: Path) -> None:
    model = tiny.bert(architecture="BertForMaskedLM")
    wanted = converted(model.write(tmp_path / "new"), "hf-flax/bert")
    old = {}
    for name, array in model.tensors.items():
        old[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = array
    old["cls.predictions.decoder.weight"] = model.tensors["bert.embeddings.word_embeddings.weight"]
    old["cls.predictions.decoder.bias"] = model.tensors["cls.predictions.bias"]
    old["bert.embeddings.position_ids"] = np.arange(24).reshape(1, 24)
    found = converted(Model(old, model.config).write(tmp_path / "old"), "hf-flax/bert")
    assert_same_arrays(joined(found), joined(wanted))


def test_the_architectures_of_a_target_are_of_one_preset_each() -> None:
    claims: dict[tuple[str, str], str] = {}
    for preset in NAMES:
        for architecture in json.loads((MAPS / f"{preset}.json").read_text())["architectures"]:
            assert claims.setdefault((preset.split("/")[0], architecture), preset) == preset

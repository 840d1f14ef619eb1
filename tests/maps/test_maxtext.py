# SPDX-License-Identifier: MIT
"""The maps maxtext/* and maxtext-unscanned/*: leaf by leaf what MaxText's own converter makes of the same files.

The converter is run whole: it reads the safetensors files, builds the abstract model, saves an Orbax checkpoint, and
that is read back. Then MaxText loads what the command writes, and its models calculate with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
from numpy_models import assert_same_logits, llama_logits
from other_programs import run_jobs
from presets import assert_same_arrays, converted, joined, written
from safetensors.numpy import load_file
from tiny_models import BF16, F32, Model

pytestmark = pytest.mark.long

IDS = np.random.default_rng(1).integers(0, 112, (4, 12)).astype(np.int32)  # a row for each of the four devices


def no_more(config: dict[str, Any]) -> dict[str, Any]:
    """No options besides those of every model."""
    return {}


def experts(config: dict[str, Any]) -> dict[str, Any]:
    """Options of a model with experts."""
    width = config.get("moe_intermediate_size", config["intermediate_size"])
    count = config.get("num_experts") or config["num_local_experts"]
    return {"base_mlp_dim": width, "base_moe_mlp_dim": width, "num_experts": count, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Case:
    """A family: MaxText's name of one of its models, a tiny one, and options that make MaxText's as tiny."""

    model: str
    make: Callable[..., Model]
    more: Callable[[dict[str, Any]], dict[str, Any]] = no_more
    has_arithmetic: bool = False  # then in float32 too
    targets: tuple[str, ...] = ("maxtext", "maxtext-unscanned")


def gemma3(dtype: np.dtype[Any]) -> Model:
    """As MaxText wants the names; two rounds of its six kinds of layers."""
    return tiny.gemma3(dtype, prefix="model.language_model.", num_hidden_layers=12, maxtext_vocab_size=128)


def narrow_gemma3(dtype: np.dtype[Any]) -> Model:
    """With fewer rows than the file has."""
    model = gemma3(dtype)
    return Model(model.tensors, model.config | {"maxtext_vocab_size": 96})


CASES = {
    "llama": Case("llama3.1-8b", tiny.llama, has_arithmetic=True),
    "qwen2": Case("qwen2.5-7b", tiny.qwen2),
    "qwen3": Case("qwen3-8b", tiny.qwen3),
    "qwen3-moe": Case("qwen3-30b-a3b", tiny.qwen3_moe, experts),
    # Scanned, MaxText 0.2.5 stacks the gates of its layers along a wrong axis, and stops.
    "mixtral": Case("mixtral-8x7b", tiny.mixtral, experts, has_arithmetic=True, targets=("maxtext-unscanned",)),
    "gpt-oss": Case("gpt-oss-20b", tiny.gpt_oss, experts),
    "gemma2": Case(
        "gemma2-2b",
        tiny.gemma2,
        lambda config: {"base_num_decoder_layers": 2, "vocab_size": config["vocab_size"] + 128},
        has_arithmetic=True,
    ),
    "gemma3": Case("gemma3-4b", gemma3, lambda config: {"vocab_size": 128}, has_arithmetic=True),
    "gemma3, cropped": Case("gemma3-4b", narrow_gemma3, lambda config: {"vocab_size": 96}, targets=("maxtext",)),
}


def options_of(config: dict[str, Any], scan: bool) -> dict[str, Any]:
    """MaxText's words for the sizes in config.json."""
    names = {
        "base_emb_dim": "hidden_size",
        "base_num_query_heads": "num_attention_heads",
        "base_num_kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "base_mlp_dim": "intermediate_size",
        "base_num_decoder_layers": "num_hidden_layers",
        "vocab_size": "vocab_size",
    }
    return {name: config[key] for name, key in names.items()} | {"scan_layers": scan}


def job_of(case: Case, model: Model, folder: Path, scan: bool, name: str) -> dict[str, Any]:
    """For in_maxtext.py."""
    config = model.config
    if config["model_type"] == "gemma3_text":
        config = {"text_config": config, "vision_config": {"num_hidden_layers": 0}}
    return {
        "model": case.model,
        "source": str(model.write(folder / f"source-{name}", 2)),
        "config": config,
        "options": options_of(model.config, scan) | case.more(model.config),
        "dtype": "bfloat16" if "bfloat16" in name else "float32",
        "out": str(folder / f"{name}.safetensors"),
    }


@pytest.mark.parametrize("family", CASES)
def test_leaves_are_those_of_maxtexts_converter(tmp_path: Path, family: str) -> None:
    case, jobs = CASES[family], []
    kinds = [(target, BF16) for target in case.targets] + [(case.targets[0], F32)] * case.has_arithmetic
    for target, dtype in kinds:
        job = job_of(case, case.make(dtype), tmp_path, target == "maxtext", f"{target}-{dtype.name}")
        jobs.append((f"{target}/{family.split(',')[0]}", job))
    run_jobs("maxtext", tmp_path, [job for _, job in jobs])
    for preset, job in jobs:
        assert_same_arrays(joined(converted(Path(job["source"]), preset)), load_file(job["out"]))


@dataclass(frozen=True)
class Logits:
    """A model whose logits are known, in MaxText's words. `limit`: see assert_same_logits."""

    family: str
    model: str
    tensors: Model
    options: dict[str, Any]
    limit: float = 1e-5


LLAMA = {"rms_norm_eps": 1e-5, "rope_theta": 500_000.0}
MISTRAL = {"rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0}
QWEN3 = {"rope_theta": 1_000_000.0}
LOGITS = [
    Logits("llama", "llama3.1-8b", tiny.llama(F32, **LLAMA), {"rope_use_scale": False}),
    Logits("mistral", "mistral-7b", tiny.llama(F32, **MISTRAL), {}),
    Logits("qwen2", "qwen2.5-7b", tiny.qwen2(F32, **QWEN3), {"logits_via_embedding": False}),
    Logits("qwen3", "qwen3-8b", tiny.qwen3(F32, **QWEN3), {}),
    # MaxText rounds a tied table to bfloat16 before it makes logits with it.
    Logits("qwen3", "qwen3-8b", tiny.qwen3(F32, tied=True, **QWEN3), {"logits_via_embedding": True}, limit=1e-2),
]


def test_models_calculate_the_same_logits(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", IDS)
    jobs: list[dict[str, Any]] = []
    cases: list[Logits] = []
    for number, case in enumerate(LOGITS):
        source = case.tensors.write(tmp_path / f"source-{number}")
        for target in ("maxtext", "maxtext-unscanned"):
            params = written(source, f"{target}/{case.family}", tmp_path / f"{target}-{number}") / "0" / "items"
            sizes = options_of(case.tensors.config, target == "maxtext") | {"max_target_length": 12}
            job = {"model": case.model, "params": str(params), "ids": str(tmp_path / "ids.npy")}
            jobs.append(job | {"options": sizes | case.options, "out": str(tmp_path / f"{target}-{number}.npy")})
            cases.append(case)
    run_jobs("maxtext", tmp_path, jobs)
    for case, job in zip(cases, jobs, strict=True):
        wanted = llama_logits(case.tensors.tensors, case.tensors.config, IDS)
        assert_same_logits(np.load(job["out"]), wanted, case.limit)

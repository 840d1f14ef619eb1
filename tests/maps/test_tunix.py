# SPDX-License-Identifier: MIT
"""The maps tunix/*: leaf by leaf what Tunix's own loader of safetensors files makes of the same files, and logits."""

from __future__ import annotations

from collections.abc import Callable
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

IDS = np.array([[3, 17, 9, 100, 1, 44, 5, 99, 12, 60, 7, 8], [5, 5, 6, 20, 31, 77, 2, 11, 4, 90, 23, 111]], np.int32)


def sizes_of(model: Model, **more: Any) -> dict[str, Any]:
    """Fields of Tunix's ModelConfig."""
    config = model.config
    names = {
        "num_layers": "num_hidden_layers",
        "vocab_size": "vocab_size",
        "embed_dim": "hidden_size",
        "hidden_dim": "intermediate_size",
        "num_heads": "num_attention_heads",
        "num_kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "norm_eps": "rms_norm_eps",
    }
    return {name: config[key] for name, key in names.items()} | {"rope_theta": 1_000_000} | more


def gemma3_sizes(model: Model) -> dict[str, Any]:
    """Its fields have other names."""
    sizes = sizes_of(model, num_embed=model.config["vocab_size"], sliding_window_size=8)
    return {name: size for name, size in sizes.items() if name not in ("vocab_size", "norm_eps", "rope_theta")}


def moe_sizes(model: Model) -> dict[str, Any]:
    """With experts."""
    more = {"num_experts": model.config["num_experts"], "num_experts_per_tok": 2}
    return sizes_of(model, hidden_dim=model.config["moe_intermediate_size"], **more)


Case = tuple[str, str, Callable[..., Model], Callable[[Model], dict[str, Any]]]  # map, Tunix's family, model, sizes
CASES: list[Case] = [
    ("llama3", "llama3", tiny.llama, sizes_of),
    ("llama3", "llama3", lambda dtype: tiny.llama(dtype, tied=True), lambda model: sizes_of(model, weight_tying=True)),
    ("qwen3", "qwen3", tiny.qwen3, sizes_of),
    ("qwen3", "qwen3", lambda dtype: tiny.qwen3(dtype, tied=True), lambda m: sizes_of(m, use_tied_embedding=True)),
    ("qwen3-moe", "qwen3", tiny.qwen3_moe, moe_sizes),
    ("gemma3", "gemma3", tiny.gemma3, gemma3_sizes),
]


def test_leaves_are_those_of_tunixs_loader(tmp_path: Path) -> None:
    jobs = []
    for number, (preset, family, make, sizes) in enumerate(CASES):
        for dtype in (BF16, F32):
            model = make(dtype)
            source = model.write(tmp_path / f"source-{number}-{dtype.name}")
            job = {"family": family, "sizes": sizes(model), "source": str(source), "mode": "auto"}
            jobs.append((preset, job | {"out": f"{source}.safetensors"}))
    run_jobs("tunix", tmp_path, [job for _, job in jobs])
    for preset, job in jobs:
        assert_same_arrays(joined(converted(Path(job["source"]), f"tunix/{preset}")), load_file(job["out"]))


def test_models_calculate_the_same_logits(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", IDS)
    models = [
        ("llama3", tiny.llama(F32, rope_theta=1e6), {}),
        ("llama3", tiny.llama(F32, tied=True, rope_theta=1e6), {"weight_tying": True}),
        ("qwen3", tiny.qwen3(F32, rope_theta=1e6), {}),
        ("qwen3", tiny.qwen3(F32, tied=True, rope_theta=1e6), {"use_tied_embedding": True}),
    ]
    jobs = []
    for number, (family, model, more) in enumerate(models):
        source = model.write(tmp_path / f"source-{number}")
        params = written(source, f"tunix/{family}", tmp_path / f"out-{number}")
        job = {"family": family, "sizes": sizes_of(model, **more), "params": str(params)}
        jobs.append(job | {"ids": str(tmp_path / "ids.npy"), "out": f"{source}.npy"})
    run_jobs("tunix", tmp_path, jobs)
    for (_, model, _), job in zip(models, jobs, strict=True):
        assert_same_logits(np.load(job["out"]), llama_logits(model.tensors, model.config, IDS))

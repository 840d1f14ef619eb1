# SPDX-License-Identifier: MIT
"""docs/mapping.md is run as it stands: its model, its map, its commands and what they print; then logits compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from conftest import command_path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "mapping.md").read_text()
VOCAB, WIDTH, HEADS, SIZE, LAYERS = 96, 24, 4, 6, 3
Tensors = dict[str, NDArray[np.float32]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def sessions() -> list[tuple[str, list[str]]]:
    """Commands that are shown with what they print."""
    found = re.findall(r"^    \$ (tensorport .*)\n((?:    .*\n)+)", DOCUMENT, re.MULTILINE)
    return [(command, [line[4:] for line in text.splitlines()]) for command, text in found]


def pattern(line: str) -> str:
    """A line that ends in "..." goes on; one that is nothing else stands for any number of lines."""
    if line.strip() == "...":
        return r"(?:.*\n)*"
    return re.escape(line[:-3]) + r".*\n" if line.endswith(" ...") else re.escape(line) + r"\n"


def tensors() -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, WIDTH), "lm_head.weight": (VOCAB, WIDTH)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (HEADS * SIZE, WIDTH) for name in "qkv"}
        shapes |= {at + "self_attn.o_proj.weight": (WIDTH, HEADS * SIZE), at + "self_attn.rotary_emb.inv_freq": (3,)}
        shapes |= {at + "mlp.up_proj.weight": (4 * WIDTH, WIDTH), at + "mlp.down_proj.weight": (WIDTH, 4 * WIDTH)}
        shapes[at + "input_layernorm.weight"] = (WIDTH,)
    random = np.random.default_rng(5)
    return {name: random.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}


def logits(t: Tensors, tokens: list[int]) -> NDArray[np.float64]:
    """The model in the checkpoint's own layout, as PyTorch would compute it."""
    x = t["model.embed_tokens.weight"][tokens].astype(np.float64)
    causal = np.where(np.tril(np.ones((len(tokens), len(tokens)))), 0, -np.inf)
    for layer in range(LAYERS):
        w = {name.split(f"layers.{layer}.")[1]: v for name, v in t.items() if f"layers.{layer}." in name}
        y = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * w["input_layernorm.weight"]
        q, k, v = ((y @ w[f"self_attn.{p}_proj.weight"].T).reshape(-1, HEADS, SIZE) for p in "qkv")
        scores = np.exp(np.einsum("tnh,snh->nts", q, k) / np.sqrt(SIZE) + causal)
        mixed = np.einsum("nts,snh->tnh", scores / scores.sum(axis=-1, keepdims=True), v)
        x = x + mixed.reshape(-1, HEADS * SIZE) @ w["self_attn.o_proj.weight"].T
        up = x @ w["mlp.up_proj.weight"].T
        x = x + (up / (1 + np.exp(-up))) @ w["mlp.down_proj.weight"].T
    return x @ t["lm_head.weight"].T


def run(place: Path, *command: str) -> str:
    bin_folder = place / "bin"
    bin_folder.mkdir(exist_ok=True)
    if not (bin_folder / "tensorport").exists():
        (bin_folder / "tensorport").symlink_to(command_path())
    env = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'python'}:{place}"}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint, and the document's files."""
    folder = tmp_path_factory.mktemp("mapping")
    (folder / "tiny").mkdir()
    save_file(tensors(), folder / "tiny" / "model.safetensors")
    config = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS}
    (folder / "tiny" / "config.json").write_text(json.dumps(config))
    (folder / "model.py").write_text(blocks("python")[0])
    (folder / "want.py").write_text(blocks("python")[1])
    (folder / "tiny.json").write_text(blocks("json")[0])
    run(folder, sys.executable, "want.py")
    return folder


def test_the_model_wants_what_is_shown(place: Path) -> None:
    shown = re.search(r'^    \{"blocks/attention(?:.*\n)+?.*\}\}$', DOCUMENT, re.MULTILINE)
    assert shown
    assert json.loads(shown.group()) == json.loads((place / "tree.json").read_text())


def test_commands_print_what_is_shown(place: Path) -> None:
    assert len(sessions()) == 2
    for command, shown in sessions():
        printed = run(place, "sh", "-c", command)
        assert re.fullmatch("".join(map(pattern, shown)), printed), printed


def test_every_rule_that_is_shown_can_be_read(place: Path) -> None:
    rules = re.findall(r'^ +(\{"(?:from|pieces)": .*(?:\n +"to": .*)?\})$', DOCUMENT, re.MULTILINE)
    assert len(rules) > 8
    (place / "all.json").write_text('{"tensorport_map": 1, "rules": [\n' + ",\n".join(rules) + "]}")
    check = [command_path(), "map", "check", "all.json", "-i", "tiny"]
    done = subprocess.run(check, cwd=place, capture_output=True, text=True, check=False)
    assert done.stderr == ""  # findings, since they are not one map; but no slip
    assert done.returncode == 3


def test_the_converted_model_computes_what_the_checkpoint_says(place: Path) -> None:
    convert = re.findall(r"^    (tensorport convert -i tiny .*)$", DOCUMENT, re.MULTILINE)
    assert len(convert) == 1
    run(place, "sh", "-c", convert[0])
    tokens = [3, 1, 4, 1, 5]
    load = blocks("python")[2]
    assert load.count("[[1, 2, 3]]") == 1
    save = f"import numpy\nnumpy.save('l', model(jnp.array([{tokens}])))\n"
    (place / "load.py").write_text(load.replace("[[1, 2, 3]]", str([tokens])) + save)
    assert run(place, sys.executable, "load.py").strip() == f"(1, {len(tokens)}, {VOCAB})"
    expected = logits(tensors(), tokens)
    np.testing.assert_allclose(np.load(place / "l.npy")[0], expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_the_way_back_gives_every_tensor_but_those_dropped(place: Path) -> None:
    if not (place / "out").exists():
        run(place, "sh", "-c", "tensorport convert -i tiny -o out --map tiny.json")
    back = re.findall(r"^    (tensorport convert -i out .*)$", DOCUMENT, re.MULTILINE)
    assert len(back) == 1
    run(place, "sh", "-c", back[0])
    found = load_file(place / "back" / "model.safetensors")
    expected = {name: value for name, value in tensors().items() if not name.endswith("inv_freq")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

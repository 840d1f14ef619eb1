# SPDX-License-Identifier: MIT
"""The way back: each preset forth and back gives the bytes that it began with, or says what it cannot give."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from presets import Array, assert_same_arrays, command_path, read_checkpoint
from tiny_models import BF16, F32, Model


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, which must succeed."""
    done = subprocess.run([str(command_path()), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def there(model: Model, folder: Path, preset: str) -> tuple[Path, Path]:
    """The source, and what the preset makes of it."""
    source = model.write(folder / "source", 2)
    run("convert", "-i", source, "-o", folder / "made", "--map", preset, "--precision", "keep", "--quiet")
    made = folder / "made"
    return source, made / "0" if (made / "0").is_dir() else made


@pytest.mark.parametrize("preset", ["flax-linen/llama", "hf-flax/llama", "tunix/llama3", "jax-llm-examples/llama3"])
def test_maps_that_only_move_values_are_exact(tmp_path: Path, preset: str) -> None:
    heads = {"num_attention_heads": 4, "head_dim": 8} if preset.startswith("hf-flax") else {}
    source, made = there(tiny.llama(BF16, **heads), tmp_path, preset)
    run("convert", "-i", made, "-o", tmp_path / "back", "--map", preset, "--reverse")
    assert_same_arrays(read_checkpoint(tmp_path / "back"), read_checkpoint(source))


def changed(found: dict[str, Array], wanted: dict[str, Array]) -> set[str]:
    """Names of arrays that differ somewhere."""
    return {name for name, array in wanted.items() if found[name].tobytes() != array.tobytes()}


def test_maxtext_scales_queries_and_an_original_restores_them(tmp_path: Path) -> None:
    """1/sqrt(6) is no power of two: most values of q come back one unit off, unless the original is at hand."""
    source, made = there(tiny.llama(BF16, head_dim=6), tmp_path, "maxtext/llama")
    wanted = read_checkpoint(source)
    back = ("convert", "-i", made, "--map", "maxtext/llama", "--reverse")
    done = run(*back, "-o", tmp_path / "back")
    off = changed(read_checkpoint(tmp_path / "back"), wanted)
    assert off
    assert all("q_proj" in name for name in off), off
    assert "W02" in done.stdout
    assert "mul" in done.stdout
    run(*back, "-o", tmp_path / "restored", "--original", source)
    assert_same_arrays(read_checkpoint(tmp_path / "restored"), wanted)
    run("verify", "--model", tmp_path / "restored", "--source", made, "--original", source)


def test_what_was_trained_since_is_calculated_back(tmp_path: Path) -> None:
    """Of an array that was changed in places, those places are not the original's."""
    model = tiny.llama(F32, head_dim=6)
    _, made = there(model, tmp_path, "maxtext/llama")
    name = "model.layers.0.self_attn.q_proj.weight"
    other = model.tensors[name].copy()
    other[0, :3] += 1
    (tmp_path / "other").mkdir()
    elsewhere = Model(model.tensors | {name: other}, model.config).write(tmp_path / "other" / "source")
    back = ("convert", "-i", made, "--map", "maxtext/llama", "--reverse", "-o", tmp_path / "back")
    run(*back, "--original", elsewhere)
    found = read_checkpoint(tmp_path / "back")[name]
    np.testing.assert_allclose(found[0, :3], model.tensors[name][0, :3], rtol=1e-6)
    assert found[1:].tobytes() == model.tensors[name][1:].tobytes()
    assert found[0, 3:].tobytes() == model.tensors[name][0, 3:].tobytes()


def test_tensors_that_a_map_drops_come_from_the_original(tmp_path: Path) -> None:
    model = tiny.llama(BF16, head_dim=6)
    extra = "model.layers.0.self_attn.rotary_emb.inv_freq"
    whole = Model(model.tensors | {extra: np.arange(3, dtype=np.float32)}, model.config)
    source, made = there(whole, tmp_path, "maxtext/llama")
    run("convert", "-i", made, "-o", tmp_path / "back", "--map", "maxtext/llama", "--reverse", "--original", source)
    assert_same_arrays(read_checkpoint(tmp_path / "back"), read_checkpoint(source))


def test_an_original_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    _, made = there(tiny.llama(BF16, head_dim=6), tmp_path, "maxtext/llama")
    (tmp_path / "o").mkdir()
    other = tiny.gpt2(F32).write(tmp_path / "o" / "gpt2")
    command = [str(command_path()), "convert", "-i", str(made), "-o", str(tmp_path / "back"), "--map", "maxtext/llama"]
    command += ["--reverse", "--original", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "does not fit the original" in done.stderr
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("named", [".", "0", "0/items"])
def test_whichever_folder_is_named_the_way_back_gives_a_whole_model_folder(tmp_path: Path, named: str) -> None:
    """The folder of steps, a step or its item: config.json and the tokenizer lie beside the step's manifest.json."""
    source = tiny.llama(BF16).write(tmp_path / "source", 2)
    (source / "tokenizer_config.json").write_text('{"model_max_length": 77}')
    run("convert", "-i", source, "-o", tmp_path / "made", "--map", "maxtext/llama", "--quiet")
    back = tmp_path / "back"
    run("convert", "-i", tmp_path / "made" / named, "-o", back, "--map", "maxtext/llama", "--reverse")
    run("verify", "--model", back)
    for name in ("config.json", "tokenizer_config.json"):
        assert (back / name).read_bytes() == (source / name).read_bytes()


def test_what_a_map_leaves_out_is_no_parameter_of_the_output(tmp_path: Path) -> None:
    """One tensor of many: the report counts its values, and not the values of the others."""
    model = tiny.llama(BF16)
    name = "model.layers.0.mlp.gate_proj.weight"
    rules = [{"from": name, "to": "gate", "axes": "o i -> i o"}]
    (tmp_path / "map.json").write_text(
        json.dumps({"tensorport_map": 1, "name": "gate", "rules": rules, "unmatched": "drop"})
    )
    source = model.write(tmp_path / "source", 2)
    done = run("convert", "-i", source, "-o", tmp_path / "out", "--map", tmp_path / "map.json", "--json")
    assert json.loads(done.stdout)["parameters"] == model.tensors[name].size


def test_a_model_that_holds_an_item_lends_it_nothing(tmp_path: Path) -> None:
    """What lies above a checkpoint is only its own if it is a step of it."""
    run("convert", "-i", tiny.llama(BF16).write(tmp_path / "source"), "-o", tmp_path / "model", "--quiet")
    bare = tiny.llama(BF16).write(tmp_path / "bare")
    (bare / "config.json").unlink()
    run("convert", "-i", bare, "-o", tmp_path / "model" / "ck", "--format", "orbax", "--quiet")
    (tmp_path / "model" / "ck" / "manifest.json").unlink()
    run("convert", "-i", tmp_path / "model" / "ck", "-o", tmp_path / "out", "--format", "safetensors", "--quiet")
    assert not (tmp_path / "out" / "config.json").exists()

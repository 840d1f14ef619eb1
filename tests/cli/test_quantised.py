# SPDX-License-Identifier: MIT
"""What `inspect` says of the files of real quantisers is what `convert --dequantize` plans to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, run

DATA = ROOT / "tests" / "data" / "quantised"
FOLDERS = sorted(path.parent.name for path in DATA.glob("*/config.json"))


def document(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def source(name: str, folder: Path) -> Path:
    """The checkpoint without expected.safetensors, which lies beside it."""
    for file in ("config.json", "model.safetensors"):
        (folder / file).write_bytes((DATA / name / file).read_bytes())
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_inspect_and_the_plan_agree(name: str, tmp_path: Path) -> None:
    folder = source(name, tmp_path)
    found = document("inspect", folder, "--all")
    plan = document("convert", "-i", folder, "-o", tmp_path / "out", "--dequantize", "--dry-run")
    weights = {weight["name"]: weight for weight in found["quantised"]["weights"]}
    planned = {array["name"]: array for array in plan["arrays"] if array["scheme"]}
    assert planned
    assert found["quantised"]["refused"] is None
    assert {name: (w["scheme"], w["shape"]) for name, w in weights.items()} == {
        name: (array["scheme"], array["shape"]) for name, array in planned.items()
    }
    assert plan["totals"]["decoded_parameters"] == sum(weight["parameters"] for weight in weights.values())
    grouped = [tensor["name"] for tensor in found["tensors"] if "group" in tensor]
    assert sorted(grouped) == sorted(member for weight in weights.values() for member in weight["members"])


@pytest.mark.parametrize("name", ["mxfp4-gptoss", "bnb-nf4-bs4096-bf16", "modelopt-export-nvfp4"])
def test_each_part_leads_to_the_same_weight(name: str, tmp_path: Path) -> None:
    folder = source(name, tmp_path)
    for weight in document("inspect", folder)["quantised"]["weights"]:
        for member in weight["members"]:
            assert document("inspect", folder, "--tensor", member)["weight"] == weight
        if weight["name"] not in weight["members"]:
            assert document("inspect", folder, "--tensor", weight["name"]) == weight


def converted_config(name: str, folder: Path, more: dict[str, object]) -> tuple[str, dict[str, object]]:
    """What was said, and config.json after --dequantize; before it, `more` is added."""
    source(name, folder)
    config = json.loads((folder / "config.json").read_text()) | more
    (folder / "config.json").write_text(json.dumps(config))
    done = run("convert", "-i", folder, "-o", folder / "out", "--dequantize", "--quiet")
    assert done.returncode == 0, done.stderr
    return done.stderr, json.loads((folder / "out" / "config.json").read_text())


def test_deepseek_v4_says_nothing_of_its_experts_codes_any_more(tmp_path: Path) -> None:
    words, config = converted_config("deepseekv4-fp4expert", tmp_path, {"vocab_size": 7})
    assert (words, config["vocab_size"]) == ("", 7)
    assert not {"expert_dtype", "quantization_config"} & set(config)


@pytest.mark.parametrize("constant", [float("nan"), float("inf"), -float("inf")])
def test_a_constant_of_pythons_json_changes_nothing(constant: float, tmp_path: Path) -> None:
    words, config = converted_config("gptq-4bit-g32-sym-v2", tmp_path, {"rope_theta": constant})
    assert words == ""
    assert str(config["rope_theta"]) == str(constant)
    assert "quantization_config" not in config
    found = document("inspect", tmp_path / "model.safetensors")
    assert found["config"]["quant_method"] == "gptq"
    assert found["notes"] == []

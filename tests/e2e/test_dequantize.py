# SPDX-License-Identifier: MIT
"""`convert --dequantize`, from the files of the real quantisers to what the same packages decode them to.

tests/data/quantised/NAME holds a checkpoint (config.json, model.safetensors) and, where it is small enough, the
tensors that the package itself decodes (expected.safetensors). The unit tests hold each decoder to its formula; here
the command as a whole is held to the packages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from flax import serialization

from conftest import run

DATA = Path(__file__).resolve().parent.parent / "data" / "quantised"
CASES = sorted(path.parent.name for path in DATA.glob("*/expected.safetensors"))
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
# What the packages make of E8M0's NaN differs from release to release; here it is NaN, as OCP says.
NAN_SCALES = {name for name in CASES if "all-scales" in name}
# "NAME.modelopt_bf16" and the like: other roundings of the same weight, which are not what is asked for.
Array = np.ndarray[Any, Any]


def read(path: Path) -> dict[str, Array]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__" or entry["dtype"] not in DTYPES:
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[start + begin : start + end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def decode(name: str, out: Path, precision: str, *options: str) -> dict[str, Array]:
    """What the command makes of a golden checkpoint, its file alone: expected.safetensors lies beside it."""
    folder = out / "source"
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors"):
        (folder / file).write_bytes((DATA / name / file).read_bytes())
    extra = ["--nan-scales"] if name in NAN_SCALES else []
    extra += ["--decode-f16-first"] if name.startswith(("gptq", "awq")) else []
    target = out / precision
    run("convert", "-i", folder, "-o", target, "--dequantize", "--precision", precision, "--on-overflow", "inf",
        *extra, *options)  # fmt: skip
    run("verify", "--model", target, "--source", folder)
    return dict(serialization.msgpack_restore((target / "model.msgpack").read_bytes()))


@pytest.mark.parametrize("name", CASES)
def test_as_the_package_decodes(name: str, tmp_path: Path) -> None:
    expected = read(DATA / name / "expected.safetensors")
    decoded: dict[str, dict[str, Array]] = {}
    compared = 0
    for key, wanted in expected.items():
        precision = wanted.dtype.name
        if precision not in decoded:
            decoded[precision] = decode(name, tmp_path, precision)
        if key not in decoded[precision]:
            continue  # another rounding of a weight
        found = decoded[precision][key]
        found = found.T if name.startswith(("gptq", "awq")) else found  # the packages give [in, out]
        assert found.shape == wanted.shape
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if name in NAN_SCALES:
            same |= np.isnan(a) & ~np.isfinite(b)
        assert same.all(), f"{key}: {(~same).sum()} of {same.size} differ"
        compared += 1
    assert compared > 0


def test_config_loses_what_no_longer_holds(tmp_path: Path) -> None:
    decode("gptq-4bit-g32-sym-v2", tmp_path, "bfloat16")
    before = json.loads((tmp_path / "source" / "config.json").read_text())
    after = json.loads((tmp_path / "bfloat16" / "config.json").read_text())
    assert "quantization_config" in before
    del before["quantization_config"]
    assert after == before
    kept = (tmp_path / "bfloat16" / "config.original.json").read_bytes()
    assert kept == (tmp_path / "source" / "config.json").read_bytes()


def test_layouts_of_stacked_experts(tmp_path: Path) -> None:
    hf = decode("mxfp4-gptoss", tmp_path / "a", "bfloat16")
    stored = decode("mxfp4-gptoss", tmp_path / "b", "bfloat16", "--mxfp4-layout", "out-in")
    name = "model.layers.0.mlp.experts.down_proj"
    assert (hf[name].transpose(0, 2, 1).view(np.uint16) == stored[name].view(np.uint16)).all()
    negative = decode("mxfp4-gptoss", tmp_path / "c", "bfloat16", "--mxfp4-positive-zero")[name].view(np.uint16)
    assert (negative != 0x8000).all()
    assert (hf[name].view(np.uint16) == 0x8000).any()


def test_keep_is_the_models_own_dtype(tmp_path: Path) -> None:
    tensors = decode("fp8block-edge-f32", tmp_path, "keep")
    config = json.loads((DATA / "fp8block-edge-f32" / "config.json").read_text())
    wanted = config.get("torch_dtype", config.get("dtype", "bfloat16"))
    assert {array.dtype.name for array in tensors.values()} == {wanted}


def test_codes_without_scales_are_an_error(tmp_path: Path) -> None:
    header = json.dumps({"m.weight": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    done = run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out", "--dequantize", code=3)
    assert "m.weight" in done.stderr
    run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out")


def test_one_scheme_can_be_forced(tmp_path: Path) -> None:
    decode("mxfp4-gptoss", tmp_path, "bfloat16", "--dequantize=mxfp4")
    folder = tmp_path / "source"
    done = run("convert", "-i", folder, "-o", tmp_path / "x", "--dequantize=marlin", code=3)
    assert "marlin" in done.stderr


def test_decoded_and_plain_are_alike_in_the_plan(tmp_path: Path) -> None:
    decode("mxfp4-gptoss", tmp_path, "bfloat16")
    done = run("convert", "-i", tmp_path / "source", "-o", tmp_path / "y", "--dequantize", "--dry-run", "--json")
    arrays = {array["name"]: array for array in json.loads(done.stdout)["arrays"]}
    array = arrays["model.layers.0.mlp.experts.down_proj"]
    assert array["source_dtype"] == "mxfp4"
    assert array["dtype"] == "float16"
    manifest = json.loads((tmp_path / "bfloat16" / "manifest.json").read_text())
    entry = next(a for a in manifest["arrays"] if a["path"] == [array["name"]])
    assert entry["scheme"] == "mxfp4"
    assert [name.rsplit("_", 1)[1] for name in entry["source"]] == ["blocks", "scales"]

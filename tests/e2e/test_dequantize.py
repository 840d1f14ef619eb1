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


# -- one model, quantised in several ways --


def header_and_data(name: str) -> tuple[dict[str, Any], bytes]:
    data = (DATA / name / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return header, data[start:]


def join(folder: Path, names: list[str], quantisation: dict[str, Any]) -> None:
    """One checkpoint of the modules of several golden ones, "0.", "1." ... before their names."""
    folder.mkdir(parents=True)
    header: dict[str, Any] = {}
    data = b""
    for i, name in enumerate(names):
        tensors, own = header_and_data(name)
        for key, entry in tensors.items():
            begin, end = entry["data_offsets"]
            header[f"{i}.{key}"] = {**entry, "data_offsets": [len(data) + begin, len(data) + end]}
        data += own
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantisation}))


def quantisation_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((DATA / name / "config.json").read_text())["quantization_config"]
    return config


def expect_joined(tmp_path: Path, names: list[str], options: tuple[str, ...] = ()) -> None:
    """What is decoded together is what is decoded alone."""
    arguments = ("--dequantize", "--precision", "float32", *options)
    run("convert", "-i", tmp_path / "joined", "-o", tmp_path / "out", *arguments)
    run("verify", "--model", tmp_path / "out", "--source", tmp_path / "joined")
    together = dict(serialization.msgpack_restore((tmp_path / "out" / "model.msgpack").read_bytes()))
    compared = 0
    for i, name in enumerate(names):
        for key, value in decode(name, tmp_path / str(i), "float32").items():
            found = together[f"{i}.{key}"]
            assert found.shape == value.shape
            assert (found.view(np.uint32) == value.view(np.uint32)).all(), f"{name} {key}"
            compared += 1
    assert compared == len(together)


SEVERAL_GROUPS = ["ct-fp8-channel-bf16", "ct-nvfp4-bf16", "ct-pack-int4-g32-asym-f16", "ct-mxfp6",
                  "ct-pack-int8-channel-sym-bf16", "ct-int8-channel-asym", "ct-fp8-tensor-f16"]  # fmt: skip


def several_groups(names: list[str]) -> dict[str, Any]:
    groups = {f"group_{i}": quantisation_of(name)["config_groups"]["group_0"] for i, name in enumerate(names)}
    return {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups}


def test_config_groups_of_compressed_tensors(tmp_path: Path) -> None:
    join(tmp_path / "joined", SEVERAL_GROUPS, several_groups(SEVERAL_GROUPS))
    expect_joined(tmp_path, SEVERAL_GROUPS)


@pytest.mark.parametrize("left_out", range(len(SEVERAL_GROUPS)))
def test_a_module_of_no_config_group_is_refused(left_out: int, tmp_path: Path) -> None:
    others = SEVERAL_GROUPS[:left_out] + SEVERAL_GROUPS[left_out + 1 :]
    join(tmp_path / "joined", SEVERAL_GROUPS, several_groups(others))
    done = run("convert", "-i", tmp_path / "joined", "-o", tmp_path / "out", "--dequantize", code=3)
    assert f"{left_out}." in done.stderr
    assert not (tmp_path / "out").exists()


def test_overrides_of_gptqmodel(tmp_path: Path) -> None:
    names = ["gptq-4bit-g32-asym-v2", "gptq-8bit-g32-asym-desc-v2", "gptq-4bit-perchannel-v2", "gptq-4bit-g64-edge-v2"]
    dynamic = {
        "+:^1\\..*$": {"bits": 8, "desc_act": True},
        "2\\.(?!x).*": {"group_size": -1},
        "+:3.*": {"group_size": 64},
        "-:.*lm_head.*": {},
    }
    join(tmp_path / "joined", names, {**quantisation_of(names[0]), "dynamic": dynamic})
    expect_joined(tmp_path, names, ("--decode-f16-first",))
    del dynamic["+:^1\\..*$"]
    join(tmp_path / "less", names, {**quantisation_of(names[0]), "dynamic": dynamic})
    done = run("convert", "-i", tmp_path / "less", "-o", tmp_path / "no", "--dequantize", code=3)
    assert "1.model.layers.0.mlp.down_proj" in done.stderr
    assert "none of the 3 ways" in done.stderr
    assert not (tmp_path / "no").exists()


def test_layers_of_modelopt(tmp_path: Path) -> None:
    names = ["modelopt-export-nvfp4", "modelopt-export-fp8-perchannel", "modelopt-export-mxfp4", "modelopt-nvfp4-f16"]
    join(tmp_path / "joined", names, {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"})
    layers = {
        "0.model.layers.0.self_attn.q_proj": {"quant_algo": "NVFP4", "group_size": 16},
        "1.model.layers.0.self_attn.q_proj": {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"},
        "2.model.layers.0.self_attn.q_proj": {"quant_algo": "mxfp4"},
    }
    quantisation = {"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}}
    (tmp_path / "joined" / "hf_quant_config.json").write_text(json.dumps(quantisation))
    expect_joined(tmp_path, names)


def test_w4a16_awq_of_modelopt(tmp_path: Path, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 256, (12, 256), dtype=np.uint8)
    scales = rng.random((24, 2), dtype=np.float32)
    inputs = (rng.random(256, dtype=np.float32) + 0.5).astype(ml_dtypes.bfloat16)
    parts: dict[str, tuple[str, Array]] = {
        "a.weight": ("U8", codes),
        "a.weight_scale": ("F32", scales),
        "a.pre_quant_scale": ("BF16", inputs),
        "b.weight": ("U8", codes),
        "b.weight_scale": ("F32", scales),
    }
    header, data = {}, b""
    for name, (dtype, array) in parts.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    config = {"quantization": {"quant_algo": "W4A16_AWQ", "group_size": 128, "pre_quant_scale": True}}
    (tmp_path / "in" / "hf_quant_config.json").write_text(json.dumps(config))
    run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out", "--dequantize", "--precision", "float32")
    found = dict(serialization.msgpack_restore((tmp_path / "out" / "model.msgpack").read_bytes()))
    q = np.stack([codes & 15, codes >> 4], axis=1).reshape(24, 256).astype(np.int8)
    q = np.where(q < 8, q, q - 16).astype(np.float32)
    plain = q * np.repeat(scales, 128, axis=1)
    assert (found["b.weight"] == plain).all()
    assert (found["a.weight"] == plain * inputs.astype(np.float32)).all()
    (tmp_path / "in" / "hf_quant_config.json").unlink()
    run("convert", "-i", tmp_path / "in", "-o", tmp_path / "no", "--dequantize", code=3)


# -- what is assumed, and what is asked for --


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("gptq-2bit-g32-asym-v1", None, "config.json has no checkpoint_format"),
        ("gptq-4bit-g32-sym-v2", "gptq", "look like those of 'gptq_v2'"),
        ("gptq-4bit-g32-sym-v2", None, "look like those of 'gptq_v2'"),
    ],
)
def test_zero_points_of_an_unsure_format_are_a_warning(
    name: str, written: str | None, words: str, tmp_path: Path
) -> None:
    quantisation = quantisation_of(name)
    del quantisation["checkpoint_format"]
    if written:
        quantisation["checkpoint_format"] = written
    join(tmp_path / "in", [name, name], quantisation)
    done = run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out", "--dequantize", "--on-overflow", "inf")
    assert words in done.stdout
    assert "2 weights: " in done.stdout
    assert "checkpoint_format" in done.stdout


def test_f16_first_is_of_gptq_and_awq_alone(tmp_path: Path) -> None:
    for name, differs in {"gptq-4bit-g32-asym-v2": True, "awq-g32": True, "ct-pack-int4-g32-asym-f16": False}.items():
        folder = DATA / name
        values = []
        for i, options in enumerate([(), ("--decode-f16-first",)]):
            out = tmp_path / f"{name}-{i}"
            arguments = ("--dequantize", "--precision", "float32", *options)
            run("convert", "-i", folder / "model.safetensors", "-o", out, *arguments)
            tree = dict(serialization.msgpack_restore((out / "model.msgpack").read_bytes()))
            values.append(next(iter(tree.values())))
        assert (values[0] != values[1]).any() == differs, name


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


def write_zeros(folder: Path, tensors: dict[str, tuple[str, list[int]]], config: dict[str, Any] | None = None) -> None:
    sizes = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F16": 2, "BF16": 2, "F32": 4, "I32": 4, "I64": 8}
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape, dtype=np.int64)) * sizes[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    (folder / "config.json").write_text(json.dumps({"quantization_config": config} if config else {}))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("m.weight", "F8_E4M3"),
        ("m.weight_packed", "I32"),
        ("m.qweight", "I32"),
        ("m.experts.up_proj_blocks", "U8"),
        ("m.experts.up_proj_scales", "U8"),
        ("m.weight_scale_inv", "F32"),
        ("m.weight_scale", "BF16"),
        ("m.weight_scale_2", "F32"),
        ("m.scale", "F8_E8M0"),
        ("m.scales", "F16"),
        ("m.qzeros", "I32"),
        ("m.g_idx", "I32"),
        ("m.weight_zero_point", "I8"),
        ("m.weight_shape", "I64"),
        ("m.weight.absmax", "F32"),
        ("m.weight.nested_absmax", "F32"),
        ("m.weight.quant_state.bitsandbytes__nf4", "U8"),
        ("m.SCB", "F32"),
        ("m.pre_quant_scale", "BF16"),
    ],
)
def test_codes_without_scales_and_scales_without_codes_are_errors(name: str, dtype: str, tmp_path: Path) -> None:
    write_zeros(tmp_path / "in", {name: (dtype, [4]), "n.weight": ("F32", [4])})
    done = run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out", "--dequantize", code=3)
    assert name in done.stderr
    assert not (tmp_path / "out").exists()
    run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out")


GPTQ = {"m.qweight": ("I32", [4, 32]), "m.qzeros": ("I32", [1, 4]), "m.scales": ("F16", [1, 32])}
PACKED = {"m.weight_packed": ("I32", [4, 8]), "m.weight_scale": ("F16", [4, 2]), "m.weight_shape": ("I64", [2])}


@pytest.mark.parametrize(
    ("word", "tensors", "config"),
    [
        ("marlin", GPTQ, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}),
        ("bitblas", GPTQ, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "bitblas"}),
        ("is_marlin_format", GPTQ, {"quant_method": "gptq", "bits": 4, "is_marlin_format": True}),
        ("gemv", GPTQ, {"quant_method": "awq", "bits": 4, "version": "gemv"}),
        ("sparse-24-bitmask", PACKED, {"quant_method": "compressed-tensors", "format": "sparse-24-bitmask"}),
        ("marlin-24", PACKED, {"quant_method": "compressed-tensors", "format": "marlin-24"}),
        ("unheard_of", GPTQ, {"quant_method": "unheard_of"}),
    ],
)
def test_what_cannot_be_decoded_is_refused_by_name(
    word: str, tensors: dict[str, tuple[str, list[int]]], config: dict[str, Any], tmp_path: Path
) -> None:
    write_zeros(tmp_path / "in", tensors, config)
    done = run("convert", "-i", tmp_path / "in", "-o", tmp_path / "out", "--dequantize", code=3)
    assert word in done.stderr
    assert not (tmp_path / "out").exists()


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

# SPDX-License-Identifier: MIT
"""Random maps on random headers, most of them right, some spoilt on purpose. A seed is a case, always the same."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

FLOATS = ("float32", "float16", "bfloat16", "float64")
DTYPES = (*FLOATS, "float32", "bfloat16", "int32", "uint8", "int16", "bool", "int64")
AXES = "abcdfgh"


@dataclass
class Case:
    """A map, the sources that it is applied to, and what config.json says."""

    map: Json
    sources: dict[str, Array]
    config: Json
    spoilt: str = ""  # what was done to it on purpose


@dataclass
class Side:
    """Groups of named axes and their sizes."""

    groups: list[list[str]]
    sizes: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """As the map says it."""
        return " ".join(group[0] if len(group) == 1 else f"({' '.join(group)})" for group in self.groups)

    def shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Of a tensor with these sizes."""
        return tuple(math.prod(sizes[axis] for axis in group) for group in self.groups)


def values(chance: random.Random, shape: tuple[int, ...], dtype: str) -> Array:
    """Random ones; floats are small and of both signs, with zeros of both kinds."""
    rng = np.random.default_rng(chance.getrandbits(32))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype not in FLOATS:
        return rng.integers(0, 100, shape).astype(dtype)
    numbers = rng.standard_normal(shape) * np.exp2(rng.integers(-6, 7, shape))
    numbers = np.where(rng.random(shape) < 0.05, np.copysign(0.0, numbers), numbers)
    return np.asarray(numbers).astype(getattr(ml_dtypes, dtype, None) or dtype)


def grouped(chance: random.Random, axes: list[str]) -> list[list[str]]:
    """Neighbours merged now and then."""
    groups: list[list[str]] = []
    for axis in axes:
        if groups and chance.random() < 0.35:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def dims_for(
    chance: random.Random, groups: list[list[str]], sizes: dict[str, int], tag: str, case: Case
) -> list[list[str]]:
    """All sizes of a group but one must be known: by dims, by config.json, or by digits."""
    named: list[list[str]] = []
    for group in groups:
        unknown = chance.randrange(len(group))
        row = []
        for at, axis in enumerate(group):
            if len(group) > 1 and at != unknown:
                case.map["dims"][axis] = chance.choice([sizes[axis], f"cfg_{tag}_{axis} / 2"])
                case.config[f"cfg_{tag}_{axis}"] = sizes[axis] * 2
            row.append(axis)
        named.append(row)
    return named


def add_rule(chance: random.Random, case: Case, number: int) -> None:
    """One rule with what it takes: layers and experts, splits, stacks, arithmetic."""
    tag = f"r{number}"
    axes = [f"{axis}{number}" for axis in chance.sample(AXES, chance.randint(0, 4))]
    sizes = {axis: chance.choice([1, 2, 3, 4, 5, 7]) for axis in axes}
    if axes and chance.random() < 0.05:
        sizes[axes[0]] = 0
    left = Side(dims_for(chance, grouped(chance, axes), sizes, tag, case))
    rule: Json = {}
    captures = chance.choice([[], [], ["l"], ["l"], ["l", "e"]])
    counts = {name: chance.randint(1, 3) for name in captures}
    stacked = [name for name in captures if axes and chance.random() < 0.5]
    right_axes = list(axes)
    chance.shuffle(right_axes)
    targets = 1
    kind = chance.choice(["plain", "plain", "plain", "split", "sizes", "stack", "cat"]) if axes else "plain"
    many = 1
    if kind == "split" and sizes[axes[-1]] >= 2:
        rule["split"], targets = axes[-1], sizes[axes[-1]]
        right_axes.remove(axes[-1])
    elif kind == "sizes" and sizes[axes[0]] >= 2:
        cut = chance.randint(1, sizes[axes[0]] - 1)
        rule["split"] = {"axis": axes[0], "sizes": [cut, sizes[axes[0]] - cut]}
        targets = 2
    elif kind in ("stack", "cat"):
        many = chance.randint(2, 3)
        rule[kind] = "s" if kind == "stack" else axes[0]
        if kind == "stack":
            right_axes.insert(chance.randrange(len(right_axes) + 1), "s")
        else:
            case.map["dims"].pop(axes[0], None)
    for name in stacked:
        right_axes.insert(chance.randrange(len(right_axes) + 1), name)
    right = Side(grouped(chance, right_axes))
    has_axes = bool(axes) and (kind != "plain" or stacked or chance.random() < 0.8)
    inner = "".join(f".{{{name}}}" for name in captures)
    names = [f"m.{tag}{'_' + str(which) if many > 1 else ''}{inner}.w" for which in range(many)]
    outer = "".join(f"/{{{name}}}" for name in captures if name not in stacked or not has_axes)
    to = [f"t/{tag}{'_' + str(which) if targets > 1 else ''}{outer}/k" for which in range(targets)]
    rule = {"from": names if many > 1 else names[0], "to": to if targets > 1 else to[0]} | rule
    if has_axes:
        rule["axes"] = f"{left.text()} -> {right.text()}"
    dtype = chance.choice(DTYPES)
    if dtype in FLOATS and chance.random() < 0.3:
        rule["mul"] = chance.choice(["1/sqrt(7)", 2, {"by": "sqrt(3)", "in": "bf16"}])
    if dtype in FLOATS and chance.random() < 0.2:
        rule["add"] = 1
    if dtype in FLOATS and chance.random() < 0.2:
        rule["dtype"] = chance.choice(["float32", "bfloat16", "float16"])
    if has_axes and kind == "plain" and right_axes and chance.random() < 0.15 and right_axes[0] in sizes:
        rule["pad"] = {right_axes[0]: max(1, sizes[right_axes[0]] + chance.choice([-1, 2, 5]))}
    case.map["rules"].append(rule)
    for index in np.ndindex(*counts.values()):
        for which, name in enumerate(names):
            full = name
            for capture, value in zip(captures, index, strict=True):
                full = full.replace(f"{{{capture}}}", str(value))
            own = dict(sizes)
            if kind == "cat" and which and len(left.groups[0]) == 1:
                own[axes[0]] = max(1, sizes[axes[0]] + which - 1)
            case.sources[full] = values(chance, left.shape(own), dtype)


def spoil(chance: random.Random, case: Case) -> None:
    """Make it wrong in one of the ways that people do; it may still be right by chance."""
    name = chance.choice(sorted(case.sources))
    rule = chance.choice(case.map["rules"])
    array = case.sources[name]
    case.spoilt = chance.choice(["missing", "rank", "size", "twice", "unmatched", "same target", "axis", "dtype"])
    match case.spoilt:
        case "missing":
            del case.sources[name]
        case "rank":
            case.sources[name] = array[None]
        case "size":
            case.sources[name] = (
                np.resize(array, (*array.shape[:-1], array.shape[-1] + 1)) if array.ndim else array[None]
            )
        case "twice":
            case.map["rules"].append(dict(rule))
        case "unmatched":
            case.sources["stray.weight"] = np.zeros(3, np.float32)
        case "same target":
            case.map["rules"][-1]["to"] = case.map["rules"][0]["to"]
        case "axis":
            if "axes" in rule:
                rule["axes"] += " zz"
        case "dtype":
            case.sources[name] = array.astype(np.int8)


def random_case(seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(seed)
    case = Case({"tensorport_map": 1, "name": f"random-{seed}", "dims": {}, "rules": []}, {}, {})
    if chance.random() < 0.3:
        case.map["cast"] = "first"
    if chance.random() < 0.3:
        case.map["unmatched"] = chance.choice(["warn", "keep", "drop"])
    for number in range(chance.randint(1, 4)):
        add_rule(chance, case, number)
    if chance.random() < 0.2:
        case.map["const"] = [{"to": "t/step", "value": 7, "dtype": "int32"}]
    if chance.random() < 0.1:
        none = {"to": chance.choice(["t/none", "t", "t/none/x"]), "value": None}
        case.map.setdefault("const", []).append(none | chance.choice([{}, {"if": 1}, {"if": 0}, {"if": "absent"}]))
    if case.sources and chance.random() < 0.25:
        spoil(chance, case)
    return case

# SPDX-License-Identifier: MIT
"""What a map means, said once more in NumPy: the oracle that the C code is compared with.

It owns no speed and no shared ideas with src/map: every source is reshaped to its named axes, calculated with, and put
at its place in a whole target. docs/mapping.md teaches the language, map_language.py reads it, `apply` is the entry.

Where several things are wrong all are found where that is possible; MapError has the code of each.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from map_language import (
    Captures,
    Json,
    Map,
    MapError,
    MissingNameError,
    Rule,
    Scope,
    Source,
    as_list,
    flat,
    format_name,
    match,
    name_tokens,
    parse,
)

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

EXTRA_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
ROUNDED_TO = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def dtype_of(name: str) -> np.dtype[Any]:
    """A dtype by NumPy's name for it, those of ml_dtypes included."""
    return np.dtype(getattr(ml_dtypes, name)) if name in EXTRA_DTYPES else np.dtype(name)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Is it one of those that are calculated with and cast?"""
    return dtype.name in ("float64", "float32", "float16", "bfloat16")


# ---- applying ------------------------------------------------------------------------------------------------------

Path_ = tuple[str, ...]


@dataclass
class Part:
    """A source on its way: its values by named axes, and where it goes."""

    source: str
    rule: Rule
    axes: tuple[str, ...]
    values: Array
    slot: dict[str, int]  # index along each stack axis
    piece: int  # number of the source within the rule (for cat)
    split: int  # which of `to`


@dataclass
class Result:
    """What a map makes of its sources, in the order of the leaves."""

    arrays: dict[Path_, Array]
    lists: set[Path_]  # paths of nodes whose keys are indices of a list
    warnings: list[tuple[str, str]]
    dropped: set[str]


@dataclass
class Work:
    """The state of one application."""

    map: Map
    scope: Scope
    sources: Mapping[str, Array]
    precision: str | None
    findings: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def find(self, code: str, text: str) -> None:
        """Something is wrong; go on."""
        self.findings.append((code, text))

    def settle(self) -> None:
        """Raise what was found."""
        if self.findings:
            raise MapError(self.findings)


def apply(
    map_: Map | Json | str | Path,
    sources: Mapping[str, Array],
    config: Mapping[str, Any] | None = None,
    *,
    precision: str | None = None,
    expected: Mapping[str, tuple[Shape, str | None]] | None = None,
) -> Result:
    """Apply a map to decoded sources.

    `precision`: what every float becomes ("bfloat16"), None keeps them. `expected`: shape and dtype (or None) of every
    target by its keys joined by "/". Fails with MapError.
    """
    parsed = map_ if isinstance(map_, Map) else parse(map_)
    work = Work(parsed, Scope(parsed.body.get("dims", {}), config or {}), sources, precision)
    check_axes(work)
    work.settle()
    used = matches_of(work)
    work.settle()
    parts: dict[Path_, list[Part]] = {}
    for rule, number, name, captures in used:
        for path, part in parts_of(work, rule, number, name, captures):
            parts.setdefault(path, []).append(part)
    work.settle()
    arrays = {path: target_of(work, path, found) for path, found in parts.items()}
    arrays |= kept(work, used, arrays)
    found, nones = constants(work, arrays)
    arrays |= found
    check_complete(work, used)
    check_tree(work, arrays.keys() | nones)
    if expected is not None and not work.findings:
        check_expected(work, arrays, expected)
    work.settle()
    order = sorted(arrays, key=sort_key(parsed)) if parsed.body.get("order") == "rules" else sorted(arrays)
    lists = lists_of(parsed, parts)
    written = {part.source for found in parts.values() for part in found}
    for rule, _, name, captures in used:
        if "same_as" in rule.body and name_of(work, rule, "same_as", captures) not in written:
            work.find("E13", f"{name}: what it is the same as is not written")
    work.settle()
    dropped = {name for rule, _, name, _ in used if not rule.to} - written
    return Result({path: arrays[path] for path in order}, lists, work.warnings, dropped)


def check_axes(work: Work) -> None:
    """E09: every axis must come from somewhere and go somewhere."""
    for rule in work.map.rules:
        if rule.right is None:
            continue
        right = set(flat(rule.right))
        made = {*rule.stack_captures, rule.stack, "1"}
        for number, source in enumerate(rule.sources):
            left = set(flat(source.left or ()))
            taken = {rule.split if rule.split_sizes is None else None, *rule.unstack_captures, "1"}
            for axis in sorted(left - right - taken):
                work.find("E09", f"{rule}: axis {axis} has no place on the right")
            lacking = right - left - made
            for axis in sorted(lacking):
                work.find("E09", f"{rule}: axis {axis} of the right comes from nowhere (source {number + 1})")
            for axis in sorted((left & right) & {*rule.stack_captures, rule.stack}):
                work.find("E09", f"{rule}: axis {axis} is stacked and stands on the left")
            if rule.split_sizes is None and rule.split in right:
                work.find("E09", f"{rule}: axis {rule.split} is split and stands on the right")


Used = tuple[Rule, int, str, Captures]


def matches_of(work: Work) -> list[Used]:
    """Which rule takes which source: E01, E02, E13, W01."""
    used: list[Used] = []
    takers: dict[str, list[Rule]] = {}
    hits: set[int] = set()
    taking_part = [rule for rule in work.map.rules if takes_part(work, rule.body)]
    for rule in taking_part:
        for name in work.sources:
            matched = False
            for number, source in enumerate(rule.sources):
                captures = captured(work, rule, source, name)
                if captures is None:
                    continue
                if "if_missing" in rule.body and name_of(work, rule, "if_missing", captures) in work.sources:
                    continue
                matched = True
                used.append((rule, number, name, captures))
            if matched:
                takers.setdefault(name, []).append(rule)
                hits.add(rule.number)
    for name, rules in takers.items():
        if sum(not rule.body.get("also") for rule in rules) > 1:
            work.find("E02", f"{name} is matched by " + " and ".join(map(str, rules)))
    for name in work.sources:
        if name not in takers:
            unmatched = work.map.member("unmatched", "error")
            if unmatched == "error":
                work.find("E01", f"{name} is matched by no rule")
            elif unmatched == "warn":
                work.warnings.append(("W03", f"{name} is matched by no rule and left out"))
    work.warnings += [("W01", f"{rule} matched nothing") for rule in taking_part if rule.number not in hits]
    for rule, _, name, captures in used:
        if "same_as" in rule.body:
            check_same(work, rule, name, captures)
    return used


def takes_part(work: Work, body: Mapping[str, Any]) -> bool:
    """`if`, of a rule or a constant: an expression that is known and not 0."""
    try:
        return "if" not in body or work.scope.evaluate(body["if"]) != 0
    except MissingNameError:
        return False


def captured(work: Work, rule: Rule, source: Source, name: str) -> Captures | None:
    """Of a name by one of a rule's patterns; E07 where the pattern needs a number that nobody knows."""
    try:
        return match(source.tokens, work.scope, name)
    except MissingNameError as missing:
        if ("E07", f"{rule}: {missing}") not in work.findings:
            work.find("E07", f"{rule}: {missing}")
        return None


def name_of(work: Work, rule: Rule, member: str, captures: Captures) -> str:
    """The other source that if_missing or same_as speak of."""
    return format_name(name_tokens(rule.body[member], True), work.scope, captures, rule.words)


def check_same(work: Work, rule: Rule, name: str, captures: Captures) -> None:
    """E13: what is dropped as equal must be equal, shape and dtype included."""
    other = name_of(work, rule, "same_as", captures)
    one, two = work.sources[name], work.sources.get(other)
    if two is None:
        work.find("E13", f"{name}: {other} does not exist")
    elif (one.shape, one.dtype) != (two.shape, two.dtype) or one.tobytes() != two.tobytes():
        work.find("E13", f"{name} differs from {other}")


def parts_of(work: Work, rule: Rule, number: int, name: str, captures: Captures) -> Iterator[tuple[Path_, Part]]:
    """One source, calculated with and taken apart: path of the target and the part that goes there."""
    if not rule.to:
        return
    source, values = rule.sources[number], work.sources[name]
    if source.low is not None or source.high is not None:
        taken = take(work, rule, source, name, values)
        if taken is None:
            return
        values = taken
    if rule.right is None:
        part = Part(name, rule, (), calculate(work, rule, name, values), {}, number, 0)
        yield path_of(work, rule, 0, captures), part
        return
    sizes = left_sizes(work, rule, source, name, values.shape)
    if sizes is None:
        return
    axes = flat(source.left or ())
    values = calculate(work, rule, name, values).reshape([sizes[at] for at in range(len(axes))])
    slot = {axis: int(captures[axis]) for axis in rule.stack_captures}
    if rule.stack is not None:
        slot[rule.stack] = number
    for which, cut in taken_apart(work, rule, axes, values):
        kept_axes = tuple(axis for axis in axes if axis != rule.split or rule.split_sizes is not None)
        for index in np.ndindex(*(cut.shape[kept_axes.index(axis)] for axis in rule.unstack_captures)):
            place = dict(zip(rule.unstack_captures, index, strict=True))
            view = cut[tuple(place.get(axis, slice(None)) for axis in kept_axes)]
            rest = tuple(axis for axis in kept_axes if axis not in place)
            path = path_of(work, rule, which, captures | place)
            yield path, Part(name, rule, rest, view, slot, number, which)


def take(work: Work, rule: Rule, source: Source, name: str, values: Array) -> Array | None:
    """Rows of the first axis."""
    try:
        low = 0 if source.low is None else work.scope.size(source.low, 0)
        high = values.shape[0] if source.high is None else work.scope.size(source.high, 0)
    except MissingNameError as missing:
        work.find("E07", f"{rule}: {missing}")
        return None
    if not values.ndim or not low <= high <= values.shape[0]:
        work.find("E06", f"{name}: rows {low}:{high} of shape {values.shape}")
        return None
    return values[low:high]


def axis_size(work: Work, rule: Rule, axis: str) -> int | None:
    """What the map says of an axis, or None: nothing. Fails with MissingNameError."""
    if axis.isdigit():
        return int(axis)
    if axis == rule.split:
        if rule.split_sizes is None:
            return len(rule.to)
        return sum(work.scope.size(size) for size in rule.split_sizes)
    return work.scope.size(axis) if axis in work.map.body.get("dims", {}) else None


def left_sizes(work: Work, rule: Rule, source: Source, name: str, shape: Shape) -> list[int] | None:
    """Sizes of all left axes in their order: E05, E06, E07."""
    groups = source.left or ()
    if len(groups) != len(shape):
        work.find("E05", f"{name}: shape {shape}, {rule}")
        return None
    sizes: list[int] = []
    for group, total in zip(groups, shape, strict=True):
        try:
            known = [axis_size(work, rule, axis) for axis in group]
        except MissingNameError as missing:
            work.find("E07", f"{name}: {missing}, {rule}")
            return None
        product = math.prod(size for size in known if size is not None)
        unknown = known.count(None)
        if unknown > 1 or (unknown == 1 and product == 0):
            work.find("E07", f"{name}: {group} of {total}: more than one size is unknown, {rule}")
            return None
        if (product != total) if unknown == 0 else (total % product != 0):
            work.find("E06", f"{name}: {group} is {total}, expected {product}, {rule}")
            return None
        sizes += [total // product if size is None else size for size in known]
    return sizes


def taken_apart(work: Work, rule: Rule, axes: Sequence[str], values: Array) -> Iterator[tuple[int, Array]]:
    """The number of each of `to`, and what goes there."""
    if rule.split is None:
        yield 0, values
        return
    at = axes.index(rule.split)
    if rule.split_sizes is None:
        for which in range(len(rule.to)):
            yield which, values.take(which, axis=at)
        return
    start = 0
    for which, size in enumerate(rule.split_sizes):
        end = start + work.scope.size(size)
        yield which, values.take(range(start, end), axis=at)
        start = end


def calculate(work: Work, rule: Rule, name: str, values: Array) -> Array:
    """The steps mul and add, each rounded once to the dtype of the value, and the dtype that the target will have."""
    out = dtype_of(rule.body["dtype"]) if "dtype" in rule.body else None
    if out is None and work.precision is not None and is_float(values.dtype):
        out = dtype_of(work.precision)
    if out is not None and out != values.dtype and not (is_float(out) and is_float(values.dtype)):
        work.find("E11", f"{name}: {values.dtype} cannot become {out}, {rule}")
        return values
    if not {"mul", "add"} & set(rule.body):
        return values if out is None else values.astype(out)
    if not is_float(values.dtype):
        work.find("E11", f"{name}: arithmetic on {values.dtype}, {rule}")
        return values
    if work.map.body.get("cast") == "first" and out is not None:
        values = values.astype(out)
    try:
        with np.errstate(all="ignore"):
            values = arithmetic(work.scope, rule, values)
    except MissingNameError as missing:
        work.find("E07", f"{rule}: {missing}")
    return values if out is None else values.astype(out)


def arithmetic(scope: Scope, rule: Rule, values: Array) -> Array:
    """round(value * factor), then round(value + addend); in float32, or in float64 where the values are."""
    wide = np.float64 if values.dtype == np.float64 else np.float32
    if "mul" in rule.body:
        mul = rule.body["mul"]
        factor = wide(scope.evaluate(mul["by"] if isinstance(mul, dict) else mul))
        if isinstance(mul, dict) and "in" in mul:
            factor = wide(np.float32(factor).astype(dtype_of(ROUNDED_TO[mul["in"]])))
        values = (values.astype(wide) * factor).astype(values.dtype)
    if "add" in rule.body:
        values = (values.astype(wide) + wide(scope.evaluate(rule.body["add"]))).astype(values.dtype)
    return values


def path_of(work: Work, rule: Rule, which: int, captures: Captures) -> Path_:
    """Keys of a target."""
    return keys_of(work.map, format_name(rule.to[which], work.scope, captures, rule.words))


def keys_of(map_: Map, text: str) -> Path_:
    """A whole key [7] is the index 7 of a list."""
    sep = map_.member("sep", "/")
    if not sep:
        return (text,)
    return tuple(key[1:-1] if re.fullmatch(r"\[\d+\]", key) else key for key in text.split(sep))


def target_of(work: Work, path: Path_, parts: list[Part]) -> Array:
    """A target of all its parts: E03, E04, E08, E11, then placement."""
    rule = parts[0].rule
    label = "/".join(path)
    nothing = np.zeros(0)
    if any(part.rule is not rule for part in parts):
        work.find("E03", f"{label}: {parts[0].source} by {rule} and other rules")
        return nothing
    dtypes = {part.values.dtype for part in parts}
    if len(dtypes) > 1:
        work.find("E11", f"{label}: sources differ in dtype: {dtypes}")
        return nothing
    if rule.right is None:
        if len(parts) > 1:
            work.find("E03", f"{label}: {parts[0].source} and {parts[1].source}")
        return parts[0].values
    places = [(part.piece if rule.cat else 0, tuple(sorted(part.slot.items()))) for part in parts]
    if len(set(places)) != len(places):
        work.find("E03", f"{label}: two sources in one place")
        return nothing
    stacks = {axis: 1 + max(part.slot[axis] for part in parts) for axis in parts[0].slot}
    for axis in set(stacks) & set(work.map.body.get("dims", {})):
        try:
            size = work.scope.size(axis)
        except MissingNameError as missing:
            work.find("E07", f"{rule}: {missing}")
            return nothing
        if stacks[axis] > size:
            work.find("E06", f"{label}: {axis} is {stacks[axis] - 1} of {size}")
            return nothing
        stacks[axis] = size
    if rule.stack is not None:
        stacks[rule.stack] = len(rule.sources)
    wanted = math.prod(stacks.values()) * (len(rule.sources) if rule.cat else 1)
    if len(parts) != wanted:
        work.find("E04", f"{label}: {len(parts)} sources, {wanted} places")
        return nothing
    sizes = common_sizes(work, label, rule, parts)
    if sizes is None:
        return nothing
    return merged(work, rule, placed(rule, parts, sizes | stacks))


def check_complete(work: Work, used: list[Used]) -> None:
    """E04: a capture that dims names and that is no stack takes all of its indices, whatever the others are."""
    for rule in work.map.rules:
        source_text = json.dumps([rule.body.get("from"), rule.body.get("pieces")])
        for capture in work.map.body.get("dims", {}):
            ranged = re.search(rf"{{{capture}[+<]|\*{capture}\+\d", source_text)
            if not rule.to or capture in rule.stack_captures or ranged:
                continue
            seen: dict[Any, set[int]] = {}
            for other, number, _, captures in used:
                if other is rule and capture in captures:
                    rest = tuple(sorted((k, v) for k, v in captures.items() if k != capture))
                    seen.setdefault((number, rest), set()).add(int(captures[capture]))
            try:
                wanted = set(range(work.scope.size(capture))) if seen else set()
            except MissingNameError:
                continue
            if any(found != wanted for found in seen.values()):
                work.find("E04", f"{rule}: {capture} is not all of {len(wanted)}")


def common_sizes(work: Work, label: str, rule: Rule, parts: Sequence[Part]) -> dict[str, int] | None:
    """Size of every right axis but stacks, the same in all parts (E08); of the cat axis the sum over pieces."""
    sizes: dict[str, int] = {}
    pieces: dict[int, int] = {}
    for part in parts:
        for axis, size in zip(part.axes, part.values.shape, strict=True):
            known = pieces.setdefault(part.piece, size) if axis == rule.cat else sizes.setdefault(axis, size)
            if known != size:
                work.find("E08", f"{label}: axis {axis} is {known} and {size} ({part.source})")
                return None
    if rule.cat is not None:
        sizes[rule.cat] = sum(pieces.values())
    return sizes


def placed(rule: Rule, parts: Sequence[Part], sizes: Mapping[str, int]) -> Array:
    """All parts in an array of the right axes, none of them merged."""
    axes = [axis for axis in flat(rule.right or ()) if axis != "1"]
    whole = np.zeros([sizes[axis] for axis in axes], parts[0].values.dtype)
    starts: dict[int, int] = {}
    if rule.cat is not None:
        by_piece = {part.piece: part.values.shape[part.axes.index(rule.cat)] for part in parts}
        starts = {piece: sum(by_piece[other] for other in by_piece if other < piece) for piece in by_piece}
    for part in parts:
        kept_axes = [axis for axis in part.axes if axis != "1"]
        values = part.values.reshape([n for axis, n in zip(part.axes, part.values.shape, strict=True) if axis != "1"])
        index: list[Any] = []
        for axis in axes:
            if axis in part.slot:
                index.append(part.slot[axis])
            elif axis == rule.cat:
                start = starts[part.piece]
                index.append(slice(start, start + values.shape[kept_axes.index(axis)]))
            else:
                index.append(slice(None))
        order = [kept_axes.index(axis) for axis in axes if axis not in part.slot]
        whole[tuple(index)] = values.transpose(order)
    return whole


def merged(work: Work, rule: Rule, whole: Array) -> Array:
    """Axes padded or cropped, then those of a group merged."""
    axes = [axis for axis in flat(rule.right or ()) if axis != "1"]
    for axis, expression in rule.body.get("pad", {}).items():
        try:
            size = work.scope.size(expression)
        except MissingNameError as missing:
            work.find("E07", f"{rule}: {missing}")
            continue
        at = axes.index(axis)
        whole = whole.take(range(min(size, whole.shape[at])), axis=at)
        more = [(0, size - whole.shape[at] if number == at else 0) for number in range(whole.ndim)]
        whole = np.pad(whole, more)
    sizes = dict(zip(axes, whole.shape, strict=True)) | {"1": 1}
    return np.ascontiguousarray(whole).reshape([math.prod(sizes[axis] for axis in group) for group in rule.right or ()])


def kept(work: Work, used: Sequence[Used], arrays: Mapping[Path_, Array]) -> dict[Path_, Array]:
    """What no rule matched, where the map says that it stays under its own name."""
    if work.map.member("unmatched", "error") != "keep":
        return {}
    found = {}
    for name in set(work.sources) - {name for _, _, name, _ in used}:
        path = keys_of(work.map, name)
        values = work.sources[name]
        if path in arrays:
            work.find("E03", f"{name} is kept where a rule writes")
        found[path] = values.astype(dtype_of(work.precision)) if work.precision and is_float(values.dtype) else values
    return found


def constants(work: Work, arrays: Mapping[Path_, Array]) -> tuple[dict[Path_, Array], set[Path_]]:
    """Arrays of one value, and the places of entries that are no arrays."""
    found: dict[Path_, Array] = {}
    nones: set[Path_] = set()
    for body in work.map.body.get("const", []):
        if not takes_part(work, body):
            continue
        path = keys_of(work.map, body["to"])
        if path in arrays or path in found or path in nones:
            work.find("E03", f"{body['to']} is written twice")
        if body["value"] is None:
            nones.add(path)
            continue
        try:
            shape = [work.scope.size(size, 0) for size in body.get("shape", [])]
            found[path] = np.full(shape, work.scope.evaluate(body["value"])).astype(dtype_of(body["dtype"]))
        except MissingNameError as missing:
            work.find("E07", f"{body['to']}: {missing}")
    return found, nones


def check_tree(work: Work, leaves: set[Path_]) -> None:
    """E10: nothing is both a leaf and a node."""
    nodes = {path[:depth] for path in leaves for depth in range(1, len(path))}
    for path in sorted(nodes & leaves):
        work.find("E10", f"{'/'.join(path)} is a leaf and a node")


def check_expected(work: Work, arrays: Mapping[Path_, Array], expected: Mapping[str, tuple[Shape, str | None]]) -> None:
    """E14: names, shapes and dtypes of the target's own tree."""
    found = {"/".join(path): array for path, array in arrays.items()}
    for name in sorted(set(found) ^ set(expected)):
        work.find("E14", f"{name} is {'missing' if name in expected else 'extra'}")
    for name in sorted(set(found) & set(expected)):
        shape, dtype = expected[name]
        if found[name].shape != tuple(shape) or (dtype is not None and found[name].dtype != dtype_of(dtype)):
            work.find("E14", f"{name} is {found[name].dtype}{found[name].shape}, expected {dtype}{shape}")


def lists_of(map_: Map, parts: Mapping[Path_, Sequence[Part]]) -> set[Path_]:
    """Nodes that are lists: where a `to` has an index in brackets as a whole key."""
    sep = map_.member("sep", "/")
    found: set[Path_] = set()
    if not sep:
        return found
    for path, members in parts.items():
        for part in members:
            template = as_list(part.rule.body["to"])[part.split]
            keys = template.split(sep)
            found |= {path[:depth] for depth, key in enumerate(keys) if re.fullmatch(r"\[(\{[^{}]*\}|\d+)\]", key)}
    return found


# ---- the order of leaves -------------------------------------------------------------------------------------------

KEYS = re.compile(r"[^./\[\]]+")


def forms_of(template: str) -> Iterator[list[str]]:
    """The keys of a `to`, once for every choice of alternatives, with "#" for numbers."""
    parts = re.split(r"(\{[^{}]*\})", template)
    choices = []
    for part in parts:
        if part.startswith("{"):
            choices.append(part[1:-1].partition(":")[2].split("|") if ":" in part else ["#"])
        else:
            choices.append([part])
    for chosen in itertools.product(*choices):
        yield KEYS.findall("".join(chosen))


def sort_key(map_: Map) -> Any:
    """Keys of one level in the order in which rules first mention them, numbers ascending; the unmentioned last."""
    templates = [name for rule in map_.rules for name in as_list(rule.body.get("to", []))]
    templates += [body["to"] for body in map_.body.get("const", [])]
    ranks: dict[tuple[str, ...], dict[str, int]] = {}
    for template in templates:
        for form in forms_of(template):
            for depth, key in enumerate(form):
                level = ranks.setdefault(tuple(form[:depth]), {})
                level.setdefault(key, len(level))

    def key_of(path: Path_) -> list[tuple[int, list[int], str]]:
        known: tuple[str, ...] = ()
        result: list[tuple[int, list[int], str]] = []
        for key in KEYS.findall(".".join(path)):
            level = ranks.get(known, {})
            fits = [form for form in level if re.fullmatch(r"(\d+)".join(map(re.escape, form.split("#"))), key)]
            form = key if key in level else (fits[0] if fits else key)
            numbers = re.fullmatch(r"(\d+)".join(map(re.escape, form.split("#"))), key) if form in level else None
            result.append((level.get(form, len(level)), [int(n) for n in numbers.groups()] if numbers else [], key))
            known = (*known, form)
        return result

    return key_of

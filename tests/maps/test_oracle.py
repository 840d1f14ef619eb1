# SPDX-License-Identifier: MIT
"""The oracle itself, construct by construct, against values that are written out here."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from map_language import MapError, Scope, match, name_tokens, parse
from oracle import Result, apply

Array = np.ndarray[Any, Any]


def counted(*shape: int, dtype: str = "float32") -> Array:
    """0, 1, 2, ... in this shape."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def mapped(rules: list[dict[str, Any]], sources: dict[str, Array], config: Any = None, **members: Any) -> Result:
    """With rules and other members of a map."""
    return apply({"tensorport_map": 1, "rules": rules, **members}, sources, config)


def only(result: Result) -> Array:
    """The one array."""
    (array,) = result.arrays.values()
    return array


def codes(rules: list[dict[str, Any]], sources: dict[str, Array], config: Any = None, **members: Any) -> set[str]:
    """What is wrong."""
    with pytest.raises(MapError) as caught:
        mapped(rules, sources, config, **members)
    return caught.value.codes


EXPRESSIONS = [
    ("1 + 2 * 3 - 4 / 2", 5.0),
    ("-(2 + 1)", -3.0),
    ("sqrt(a * a)", 7.0),
    ("b | a", 7.0),
    ("b | c | 3", 3.0),
    ("b + 1 | 2", 2.0),
    ("d * 2", 14.0),
    ("text_config.e", 9.0),
    ("e", 9.0),
    ("yes", 1.0),
    (".5", 0.5),
    (4, 4.0),
]


@pytest.mark.parametrize(("text", "value"), EXPRESSIONS)
def test_expressions(text: Any, value: float) -> None:
    scope = Scope({"d": "a"}, {"a": 7, "text_config": {"e": 9}, "b": None, "yes": True})
    assert scope.evaluate(text) == value


NAMES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("a.{l}.b", "a.12.b", {"l": 12}),
    ("a.{l}.b", "a.012.b", None),
    ("a.{l}.b", "a.12.bc", None),
    ("a.{l}.b", "xa.12.b", None),
    ("{l+3}", "3", {"l": 0}),
    ("{l+3}", "2", None),
    ("{l<3}", "2", {"l": 2}),
    ("{l<3}", "3", None),
    ("{2*l+b}", "7", {"l": 3, "b": 1}),
    ("{2*l+1}", "7", {"l": 3}),
    ("{2*l+1}", "6", None),
    ("{l}", "1048576", None),
    ("{l}", "1048575", {"l": 1048575}),
    ("{p:q|k}.w", "k.w", {"p": "k"}),
    ("{p:q|qq}q", "qqq", {"p": "qq"}),
    ("{p:a.|}b", "b", {"p": ""}),
    ("[model.]b", "model.b", {}),
    ("[model.]b", "b", {}),
    ("{a}{b}", "123", {"a": 12, "b": 3}),
    ("{l}.{l}", "4.4", {"l": 4}),
    ("{l}.{l}", "4.5", None),
]


@pytest.mark.parametrize(("pattern", "name", "captures"), NAMES)
def test_names(pattern: str, name: str, captures: dict[str, Any] | None) -> None:
    assert match(name_tokens(pattern, False), Scope({}, {}), name) == captures


def test_axes_are_named_and_put_elsewhere() -> None:
    found = only(mapped([{"from": "w", "to": "w", "axes": "(n h) d -> d n h"}], {"w": counted(6, 4)}, dims={"n": 3}))
    assert found.shape == (4, 3, 2)
    assert all(found[d, n, h] == (n * 2 + h) * 4 + d for d, n, h in np.ndindex(4, 3, 2))


def test_halves_become_pairs() -> None:
    found = only(mapped([{"from": "w", "to": "w", "axes": "(2 h) -> (h 2)"}], {"w": counted(6)}))
    assert found.tolist() == [0, 3, 1, 4, 2, 5]


def test_axes_of_size_1_come_and_go() -> None:
    assert only(mapped([{"from": "w", "to": "w", "axes": "1 a -> a 1"}], {"w": counted(1, 3)})).shape == (3, 1)


def test_layers_and_experts_are_stacked() -> None:
    sources = {f"l.{i}.e.{e}": np.full((2,), 10 * i + e, np.float32) for i in range(3) for e in range(4)}
    found = only(mapped([{"from": "l.{l}.e.{e}", "to": "w", "axes": "d -> e d l"}], sources))
    assert found.shape == (4, 2, 3)
    assert all(found[e, d, i] == 10 * i + e for e, d, i in np.ndindex(4, 2, 3))


def test_a_capture_that_stays_in_the_name_stacks_nothing() -> None:
    sources = {f"l.{i}": np.full((2,), i, np.float32) for i in range(4)}
    result = mapped([{"from": "l.{2*l+b}", "to": "b{b}", "axes": "d -> l d"}], sources)
    assert {path: array.tolist() for path, array in result.arrays.items()} == {
        ("b0",): [[0, 0], [2, 2]],
        ("b1",): [[1, 1], [3, 3]],
    }


def test_split_by_index_and_by_size() -> None:
    pairs = mapped([{"from": "w", "to": ["a", "b"], "axes": "(f 2) -> f", "split": "2"}], {"w": counted(6)})
    assert [array.tolist() for array in pairs.arrays.values()] == [[0, 2, 4], [1, 3, 5]]
    split = {"axis": "x", "sizes": [1, "n"]}
    sized = mapped([{"from": "w", "to": ["a", "b"], "axes": "x -> x", "split": split}], {"w": counted(6)}, {"n": 5})
    assert [array.tolist() for array in sized.arrays.values()] == [[0], [1, 2, 3, 4, 5]]


def test_a_list_is_stacked_or_stands_one_behind_the_other() -> None:
    sources = {"k": counted(4), "v": counted(4) + 10}
    stacked = only(mapped([{"from": ["k", "v"], "to": "w", "stack": "s", "axes": "d -> d s"}], sources))
    assert stacked.tolist() == [[0, 10], [1, 11], [2, 12], [3, 13]]
    behind = only(mapped([{"from": ["v", "k"], "to": "w", "cat": "x", "axes": "(g x) -> g x"}], sources, dims={"g": 2}))
    assert behind.tolist() == [[10, 11, 0, 1], [12, 13, 2, 3]]


def test_pieces_take_rows() -> None:
    pieces = [{"from": "w", "take": "2:", "axes": "x d"}, {"from": "w", "take": ":n", "axes": "x d"}]
    found = only(mapped([{"pieces": pieces, "to": "w", "cat": "x", "axes": "d x"}], {"w": counted(4, 1)}, {"n": 1}))
    assert found.tolist() == [[2, 3, 0]]


def test_an_axis_becomes_names() -> None:
    result = mapped([{"from": "w", "to": "l.{l}", "axes": "d l -> d"}], {"w": counted(2, 3)})
    assert [array.tolist() for array in result.arrays.values()] == [[0, 3], [1, 4], [2, 5]]
    assert list(result.arrays) == [("l.0",), ("l.1",), ("l.2",)]


def test_arithmetic_rounds_each_step_once() -> None:
    values = np.array([0.3, 1.7, -2.9], ml_dtypes.bfloat16)
    rule = {"from": "w", "to": "w", "mul": "1 / 3", "add": 1}
    first = (values.astype(np.float32) * np.float32(1 / 3)).astype(ml_dtypes.bfloat16)
    second = (first.astype(np.float32) + np.float32(1)).astype(ml_dtypes.bfloat16)
    assert only(mapped([rule], {"w": values})).tobytes() == second.tobytes()
    wide = values.astype(np.float32) * np.float32(1 / 3) + np.float32(1)
    cast = {**rule, "dtype": "float32"}
    assert only(mapped([cast], {"w": values})).tobytes() == second.astype(np.float32).tobytes()
    assert only(mapped([cast], {"w": values}, cast="first")).tobytes() == wide.tobytes()


def test_a_factor_may_be_rounded_first() -> None:
    values = np.array([1.0, 3.0], np.float32)
    rule = {"from": "w", "to": "w", "mul": {"by": "sqrt(n)", "in": "bf16"}}
    factor = np.float32(np.float32(np.sqrt(5)).astype(ml_dtypes.bfloat16))
    assert only(mapped([rule], {"w": values}, {"n": 5})).tolist() == [factor, factor * 3]


def test_pad_fills_with_zeros_and_crops() -> None:
    rule = {"from": "w", "to": "w", "axes": "v d -> v d"}
    assert only(mapped([{**rule, "pad": {"v": 3}}], {"w": counted(2, 1)})).tolist() == [[0], [1], [0]]
    assert only(mapped([{**rule, "pad": {"v": "n - 1"}}], {"w": counted(2, 1)}, {"n": 2})).tolist() == [[0]]


def test_rules_that_depend() -> None:
    head = {"from": "e", "to": "head", "also": True, "if_missing": "h"}
    rules: list[dict[str, Any]] = [{"from": "e", "to": "e"}, {"from": "h", "to": "head"}, head]
    assert set(mapped(rules, {"e": counted(2)}).arrays) == {("e",), ("head",)}
    assert mapped(rules, {"e": counted(2), "h": counted(3)}).arrays[("head",)].shape == (3,)
    tied: list[dict[str, Any]] = [
        {"from": "e", "to": "e"},
        {"from": "h", "to": "h", "if": "1 - tied | 1"},
        {"from": "h", "same_as": "e", "if": "tied"},
    ]
    both = {"e": counted(2), "h": counted(2)}
    assert len(mapped(tied, both).arrays) == 2
    result = mapped(tied, both, {"tied": True})
    assert (set(result.arrays), result.dropped) == ({("e",)}, {"h"})
    assert codes(tied, both | {"h": counted(3)}, {"tied": True}) == {"E13"}


def test_unmatched_tensors_stay_go_or_are_an_error() -> None:
    sources = {"a": counted(1), "b": counted(2)}
    rules = [{"from": "a", "to": "x"}]
    assert codes(rules, sources) == {"E01"}
    assert set(mapped(rules, sources, unmatched="keep").arrays) == {("x",), ("b",)}
    assert set(mapped(rules, sources, unmatched="drop").arrays) == {("x",)}
    assert [code for code, _ in mapped(rules, sources, unmatched="warn").warnings] == ["W03"]
    assert [code for code, _ in mapped([*rules, {"from": "c", "to": "y"}], {"a": counted(1)}).warnings] == ["W01"]


def test_lists_constants_and_separators() -> None:
    const = [
        {"to": "step", "value": 3, "dtype": "int32"},
        {"to": "one/two", "value": 1, "dtype": "bfloat16", "shape": [2]},
    ]
    result = mapped([{"from": "a.{l}", "to": "b/[{l}]/c"}], {"a.0": counted(1), "a.1": counted(1)}, const=const)
    assert list(result.arrays) == [("b", "0", "c"), ("b", "1", "c"), ("one", "two"), ("step",)]
    assert result.lists == {("b",)}
    assert (result.arrays[("step",)].shape, int(result.arrays[("step",)])) == ((), 3)
    flat = mapped([{"from": "a", "to": "b/[0].c"}], {"a": counted(1)}, sep="")
    assert list(flat.arrays) == [("b/[0].c",)]
    assert not flat.lists


def test_leaves_in_the_order_of_the_rules() -> None:
    rules: list[dict[str, Any]] = [
        {"from": "l.{l}.{p:up|down}", "to": "w.layers[{l}].{p:up|down}"},
        {"from": "l.{l}.a", "to": "w.layers[{l}].attn"},
        {"from": "z", "to": "w.embed"},
    ]
    sources = {f"l.{n}.{name}": counted(1) for n in (10, 2) for name in ("a", "down", "up")} | {"z": counted(1)}
    result = mapped(rules, sources, sep="", order="rules")
    layers = [f"w.layers[{n}].{name}" for n in (2, 10) for name in ("up", "down", "attn")]
    assert [path[0] for path in result.arrays] == [*layers, "w.embed"]


def axes(text: str, **more: Any) -> dict[str, Any]:
    """A rule for w."""
    return {"from": "w", "to": "w", "axes": text, **more}


ONE = {"w": counted(6, 4)}
FOUR = {"a.0": counted(2), "a.1": counted(2), "a.3": counted(2)}
WRONG: list[tuple[str, list[dict[str, Any]], dict[str, Array], dict[str, Any]]] = [
    ("E02", [{"from": "w", "to": "a"}, {"from": "w", "to": "b"}], ONE, {}),
    ("E03", [{"from": "a.{l}", "to": "x"}], FOUR, {}),
    ("E03", [{"from": "w", "to": "a"}, {"from": "w", "to": "a", "also": True}], ONE, {}),
    ("E04", [{"from": "a.{l}", "to": "x", "axes": "d -> l d"}], FOUR, {}),
    ("E04", [{"from": ["w", "v"], "to": "x", "stack": "s", "axes": "a b -> s a b"}], ONE, {}),
    ("E05", [axes("a -> a")], ONE, {}),
    ("E06", [axes("a 5 -> a 5")], ONE, {}),
    ("E06", [axes("(n h) d -> n h d")], ONE, {"dims": {"n": 4}}),
    ("E06", [axes("a b -> b a")], ONE, {"dims": {"a": 7}}),
    ("E07", [axes("(n h) d -> n h d")], ONE, {}),
    ("E07", [axes("a b -> b a")], ONE, {"dims": {"a": "hidden"}}),
    ("E07", [axes("a b -> b a")], ONE, {"dims": {"a": "a"}}),
    ("E07", [axes("a b -> b a")], ONE, {"dims": {"a": "6 / 0"}}),
    ("E07", [axes("a b -> b a", pad={"b": "4.5"})], ONE, {}),
    ("E08", [{"from": "a.{l}", "to": "x", "axes": "d -> l d"}], {"a.0": counted(2), "a.1": counted(3)}, {}),
    ("E09", [axes("a b -> a")], ONE, {}),
    ("E09", [axes("a b -> a b c")], ONE, {}),
    ("E10", [{"from": "w", "to": "a"}, {"from": "v", "to": "a/b"}], ONE | {"v": counted(1)}, {}),
    ("E11", [{"from": "w", "to": "w", "mul": 2}], {"w": counted(2, dtype="int32")}, {}),
    ("E11", [{"from": "w", "to": "w", "dtype": "float32"}], {"w": counted(2, dtype="int32")}, {}),
    (
        "E11",
        [{"from": "a.{l}", "to": "x", "axes": "d -> l d"}],
        {"a.0": counted(2), "a.1": counted(2, dtype="float16")},
        {},
    ),
    ("E13", [{"from": "w", "same_as": "v"}], ONE, {}),
]


@pytest.mark.parametrize(("code", "rules", "sources", "members"), WRONG)
def test_what_is_wrong_has_its_code(
    code: str, rules: list[dict[str, Any]], sources: dict[str, Array], members: dict[str, Any]
) -> None:
    assert codes(rules, sources, **members) == {code}


def test_the_targets_own_tree_decides() -> None:
    body = {"tensorport_map": 1, "rules": [{"from": "w", "to": "a/b"}]}
    apply(body, ONE, expected={"a/b": ((6, 4), "float32")})
    apply(body, ONE, expected={"a/b": ((6, 4), None)})
    for expected in ({"a/b": ((4, 6), None)}, {"a/b": ((6, 4), "bfloat16")}, {"a/c": ((6, 4), None)}):
        with pytest.raises(MapError) as caught:
            apply(body, ONE, expected=expected)  # type: ignore[arg-type]
        assert caught.value.codes == {"E14"}


MALFORMED: list[dict[str, Any]] = [
    {"from": "a"},
    {"from": "a", "to": "b", "drop": True},
    {"from": "a", "to": "b{l}"},
    {"from": "a", "to": "b", "axse": "a -> a"},
    {"from": "a", "to": "b", "axes": "a a -> a"},
    {"from": "a", "to": "b", "axes": "a b"},
    {"from": "a", "to": ["b", "c"]},
    {"from": "a", "to": ["b", "c"], "axes": "x -> x", "split": {"axis": "x", "sizes": [1]}},
    {"from": ["a", "b"], "to": "c"},
    {"from": "a", "to": "b", "axes": "x -> x", "pad": {"y": 3}},
    {"from": "{p:a|b}", "to": "{p:a|b|c}"},
    {"from": "a}", "to": "b"},
]


@pytest.mark.parametrize("rule", MALFORMED)
def test_a_malformed_rule_is_refused_whatever_the_sources(rule: dict[str, Any]) -> None:
    with pytest.raises(MapError) as caught:
        parse({"tensorport_map": 1, "rules": [rule]})
    assert caught.value.codes == {"FORMAT"}

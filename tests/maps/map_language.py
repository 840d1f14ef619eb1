# SPDX-License-Identifier: MIT
"""The language of maps as the oracle reads it: expressions, names, axes, rules.

docs/mapping.md teaches it; the headings below follow it. Nothing here looks at an array.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

INDEX_MAX = 1 << 20
OUTPUT_MEMBERS = {
    *("format", "precision", "item", "wrap", "oversize", "tree", "prefix", "orbax_layout", "zarr3", "step"),
}
MAP_MEMBERS = {
    *("tensorport_map", "name", "description", "architectures", "dims", "decode", "sep", "cast"),
    *("unmatched", "order", "output", "rules", "const"),
}
RULE_MEMBERS = {
    *("from", "to", "axes", "split", "stack", "cat", "pieces", "mul", "add", "pad", "dtype", "also"),
    *("if", "if_missing", "same_as", "drop"),
}


class MapError(Exception):
    """A map that is wrong (code "FORMAT") or does not fit its sources (E01 to E14)."""

    def __init__(self, findings: Sequence[tuple[str, str]]) -> None:
        """`findings`: code and text of each."""
        super().__init__("\n".join(f"{code}: {text}" for code, text in findings))
        self.findings = tuple(findings)

    @property
    def code(self) -> str:
        """The first one's."""
        return self.findings[0][0]

    @property
    def codes(self) -> set[str]:
        """Of all."""
        return {code for code, _ in self.findings}


def wrong_map(text: str) -> MapError:
    """A map that no source can satisfy."""
    return MapError([("FORMAT", text)])


# ---- expressions ---------------------------------------------------------------------------------------------------


class MissingNameError(Exception):
    """A name that is neither a dim nor a number in config.json."""


EXPRESSION_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)|([A-Za-z_][\w.]*)|([-+*/()|]))")


def config_number(config: Mapping[str, Any], path: str) -> float | None:
    """A number of config.json by its path, at the top or under text_config; true and false are 1 and 0."""
    for start in (config, config.get("text_config")):
        value: Any = start
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool | int | float):
            return float(value)
    return None


class Scope:
    """What names in expressions stand for: this map's dims, then config.json."""

    def __init__(self, dims: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """`dims`: expressions by name."""
        self.dims, self.config = dims, config
        self.running: list[str] = []  # dims whose value is being looked for

    def value_of(self, name: str) -> float:
        """Fails with MissingNameError."""
        if name in self.dims:
            if name in self.running:
                raise MissingNameError(f"{name} needs itself")
            self.running.append(name)
            try:
                return self.evaluate(self.dims[name])
            finally:
                self.running.pop()
        value = config_number(self.config, name)
        if value is None:
            raise MissingNameError(f"{name} is neither a dim nor a number in config.json")
        return value

    def evaluate(self, expression: Any) -> float:
        """A number, or the text of an expression, as float64. Fails with MissingNameError."""
        if isinstance(expression, int | float) and not isinstance(expression, bool):
            return float(expression)
        if not isinstance(expression, str):
            raise wrong_map(f"not an expression: {expression!r}")
        tokens, at = [], 0
        while expression[at:].strip():
            found = EXPRESSION_TOKEN.match(expression, at)
            if not found:
                raise wrong_map(f"expression {expression!r}: character {at + 1}")
            tokens.append(found.group().strip())
            at = found.end()
        parser = Expression([*tokens, "end"], self)
        value = parser.first_of()
        if parser.next() != "end":
            raise wrong_map(f"expression {expression!r}: more than one")
        if isinstance(value, MissingNameError):
            raise value
        return value

    def size(self, expression: Any, least: int = 1) -> int:
        """An integer that is not below `least`. Fails with MissingNameError, which becomes E07."""
        value = self.evaluate(expression)
        if not math.isfinite(value) or value != int(value) or value < least:
            raise MissingNameError(f"{expression} is {value:g}, not an integer of {least} or more")
        return int(value)


class Expression:
    """Recursive descent over tokens. What cannot be known is a value too (MissingNameError), so that `|` can go on."""

    def __init__(self, tokens: Sequence[str], scope: Scope) -> None:
        """`tokens` ends with "end"."""
        self.tokens, self.scope, self.at = tokens, scope, 0

    def next(self) -> str:
        """The token here, and past it."""
        self.at += 1
        return self.tokens[self.at - 1]

    def ahead(self, *wanted: str) -> bool:
        """Is the token here one of these?"""
        return self.tokens[self.at] in wanted

    def first_of(self) -> float | MissingNameError:
        """One of sum | sum: the first one that is known."""
        value = self.sum()
        while self.ahead("|"):
            self.next()
            other = self.sum()
            value = other if isinstance(value, MissingNameError) else value
        return value

    def sum(self) -> float | MissingNameError:
        """Product + product - product."""
        value = self.product()
        while self.ahead("+", "-"):
            sign = 1.0 if self.next() == "+" else -1.0
            other = self.product()
            if not isinstance(value, MissingNameError):
                value = other if isinstance(other, MissingNameError) else value + sign * other
        return value

    def product(self) -> float | MissingNameError:
        """Factor * factor / factor."""
        value = self.factor()
        while self.ahead("*", "/"):
            divides = self.next() == "/"
            other = self.factor()
            if isinstance(value, MissingNameError):
                continue
            if isinstance(other, MissingNameError):
                value = other
            elif divides:
                value = MissingNameError("division by zero") if other == 0 else value / other
            else:
                value = value * other
        return value

    def factor(self) -> float | MissingNameError:
        """A number, a name, sqrt(sum), (sum) or a sign before one of them."""
        token = self.next()
        if token == "-":
            value = self.factor()
            return value if isinstance(value, MissingNameError) else -value
        if token in ("(", "sqrt"):
            if token == "sqrt" and self.next() != "(":
                raise wrong_map("sqrt wants a parenthesis")
            value = self.first_of()
            if self.next() != ")":
                raise wrong_map("a parenthesis is not closed")
            if token == "(" or isinstance(value, MissingNameError):
                return value
            return math.sqrt(value) if value >= 0 else MissingNameError("square root of a negative number")
        if token[0].isdigit() or token[0] == ".":
            return float(token)
        if not re.match(r"[A-Za-z_]", token):
            raise wrong_map(f"expression: {token!r} where a number or a name is expected")
        try:
            return self.scope.value_of(token)
        except MissingNameError as missing:
            return missing


# ---- names ---------------------------------------------------------------------------------------------------------

Captures = dict[str, "int | str"]  # a number, or the text of an alternative as `from` has it

PLAIN = re.compile(r"\{(\w+)\}")
OFFSET = re.compile(r"\{(\w+)\+(\w+)\}")
LIMIT = re.compile(r"\{(\w+)<(\w+)\}")
SPLIT = re.compile(r"\{(\w+)\*([A-Za-z_]\w*)\+(\w+)\}")
WORDS = re.compile(r"\{(\w+):([^{}]*)\}")
OPTIONAL = re.compile(r"\[([^\[\]{}]*)\]")
LITERAL = re.compile(r"[^{}\[\]]+")
LITERAL_TO = re.compile(r"[^{}]+")


@dataclass(frozen=True)
class Token:
    """A part of a name. `kind`: literal, optional, index, split, words."""

    kind: str
    text: str = ""
    name: str = ""
    second: str = ""
    offset: str = "0"
    limit: str = ""
    factor: str = ""
    words: tuple[str, ...] = ()


def name_tokens(text: str, is_to: bool) -> tuple[Token, ...]:
    """A name pattern in parts. Square brackets are optional text in `from`, and plain text in `to`."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        if found := PLAIN.match(text, at):
            tokens.append(Token("index", name=found[1]))
        elif found := OFFSET.match(text, at):
            tokens.append(Token("index", name=found[1], offset=found[2]))
        elif found := LIMIT.match(text, at):
            tokens.append(Token("index", name=found[1], limit=found[2]))
        elif found := SPLIT.match(text, at):
            tokens.append(Token("split", factor=found[1], name=found[2], second=found[3]))
        elif found := WORDS.match(text, at):
            tokens.append(Token("words", name=found[1], words=tuple(found[2].split("|"))))
        elif (found := OPTIONAL.match(text, at)) and not is_to:
            tokens.append(Token("optional", text=found[1]))
        elif found := (LITERAL_TO if is_to else LITERAL).match(text, at):
            tokens.append(Token("literal", text=found[0]))
        else:
            raise wrong_map(f"name {text!r}: character {at + 1}")
        at = found.end()
    return tuple(tokens)


def captures_of(tokens: Sequence[Token]) -> tuple[set[str], set[str]]:
    """Names of the integer captures and of the word captures."""
    numbers = {token.name for token in tokens if token.kind in ("index", "split")}
    numbers |= {token.second for token in tokens if token.kind == "split" and not token.second.isdigit()}
    return numbers, {token.name for token in tokens if token.kind == "words"}


def readings(tokens: Sequence[Token], scope: Scope, text: str, known: Captures) -> Iterator[Captures]:
    """Every way to read `text` as this pattern, the longest first."""
    if not tokens:
        if not text:
            yield known
        return
    token, rest = tokens[0], tokens[1:]
    if token.kind in ("literal", "optional"):
        if text.startswith(token.text):
            yield from readings(rest, scope, text[len(token.text) :], known)
        if token.kind == "optional":
            yield from readings(rest, scope, text, known)
    elif token.kind == "words":
        for word in token.words:
            if text.startswith(word) and known.get(token.name, word) == word:
                yield from readings(rest, scope, text[len(word) :], known | {token.name: word})
    else:
        digits = re.match(r"0|[1-9][0-9]*", text)
        for length in range(len(digits[0]) if digits else 0, 0, -1):
            found = numbers_of(token, scope, int(text[:length]))
            if found is not None and all(known.get(name, value) == value for name, value in found.items()):
                yield from readings(rest, scope, text[length:], known | found)


def numbers_of(token: Token, scope: Scope, number: int) -> Captures | None:
    """What an integer in a name gives to its captures, or None: it does not fit."""
    if number >= INDEX_MAX:
        return None
    if token.kind == "split":
        factor = scope.size(token.factor)
        if token.second.isdigit():
            return {token.name: number // factor} if number % factor == int(token.second) else None
        return {token.name: number // factor, token.second: number % factor}
    value = number - scope.size(token.offset, 0)
    if value < 0 or (token.limit and value >= scope.size(token.limit, 0)):
        return None
    return {token.name: value}


def match(tokens: Sequence[Token], scope: Scope, name: str) -> Captures | None:
    """The captures of a name, or None: it does not fit."""
    return next(readings(tokens, scope, name, {}), None)


def format_name(
    tokens: Sequence[Token], scope: Scope, captures: Captures, from_words: Mapping[str, Sequence[str]]
) -> str:
    """The name for these captures; `from_words`: alternatives of the rule's `from`, to translate by position."""
    parts = []
    for token in tokens:
        if token.kind in ("literal", "optional"):
            parts.append(token.text)
        elif token.kind == "words":
            parts.append(token.words[list(from_words[token.name]).index(str(captures[token.name]))])
        elif token.kind == "split":
            rest = token.second if token.second.isdigit() else captures[token.second]
            parts.append(str(int(captures[token.name]) * scope.size(token.factor) + int(rest)))
        else:
            parts.append(str(int(captures[token.name]) + scope.size(token.offset, 0)))
    return "".join(parts)


# ---- axes ----------------------------------------------------------------------------------------------------------

Groups = tuple[tuple[str, ...], ...]
GROUP = re.compile(r"\s*(?:\(\s*([^()]*?)\s*\)|([^\s()]+))")


def groups_of(text: str) -> Groups:
    """One side of a pattern: "d (n h)" is (("d",), ("n", "h"))."""
    groups, at = [], 0
    while text[at:].strip():
        found = GROUP.match(text, at)
        if not found:
            raise wrong_map(f"axes {text!r}: character {at + 1}")
        groups.append(tuple(found[1].split()) if found[1] is not None else (found[2],))
        at = found.end()
    names = [axis for group in groups for axis in group]
    for axis in names:
        if not re.fullmatch(r"[A-Za-z_]\w*|[1-9]\d*", axis):
            raise wrong_map(f"axes {text!r}: {axis!r} is no name of an axis")
        if axis != "1" and names.count(axis) > 1:
            raise wrong_map(f"axes {text!r}: {axis} stands twice")
    return tuple(groups)


def flat(groups: Groups) -> tuple[str, ...]:
    """All axes, those of groups one by one."""
    return tuple(axis for group in groups for axis in group)


# ---- rules ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One of a rule's names in `from`, or one of its pieces."""

    tokens: tuple[Token, ...]
    left: Groups | None
    low: Any = None
    high: Any = None


@dataclass(frozen=True)
class Rule:
    """A rule as parsed; `number` from 0."""

    number: int
    body: Json
    sources: tuple[Source, ...]
    to: tuple[tuple[Token, ...], ...]
    right: Groups | None
    split: str | None
    split_sizes: tuple[Any, ...] | None
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()  # integer captures of `from`
    to_numbers: frozenset[str] = frozenset()  # and of `to`

    @property
    def stack(self) -> str | None:
        """The axis that the list in `from` becomes."""
        return self.body.get("stack")

    @property
    def cat(self) -> str | None:
        """The axis along which sources stand one behind the other."""
        return self.body.get("cat")

    @property
    def stack_captures(self) -> tuple[str, ...]:
        """Integer captures of `from` that are axes of the target."""
        if self.right is None:
            return ()
        return tuple(axis for axis in flat(self.right) if axis in self.numbers - self.to_numbers)

    @property
    def unstack_captures(self) -> tuple[str, ...]:
        """Axes of the source that are captures of `to`."""
        left = self.sources[0].left
        return tuple(axis for axis in flat(left or ()) if axis in self.to_numbers - self.numbers)

    def __str__(self) -> str:
        """As it would be written on one line."""
        return f"rule {self.number + 1}: {json.dumps(self.body)}"


def as_list(value: Any) -> list[Any]:
    """A name or a list of names."""
    return value if isinstance(value, list) else [value]


def unknown_members(members: Mapping[str, Any], allowed: set[str], where: str) -> None:
    """Typing errors must not be silent."""
    for name in members:
        if name not in allowed:
            raise wrong_map(f"{where}: unknown member {name!r}")


def parse_rule(number: int, body: Json) -> Rule:
    """One rule, with what can be checked without sources."""
    where = f"rule {number + 1}"
    unknown_members(body, RULE_MEMBERS, where)
    if ("from" in body) == ("pieces" in body):
        raise wrong_map(f"{where}: wants `from` or `pieces`")
    if "pieces" in body:
        right = groups_of(body["axes"]) if "axes" in body else None
        sources = tuple(parse_piece(piece, where) for piece in body["pieces"])
        if "cat" not in body or right is None:
            raise wrong_map(f"{where}: pieces want `cat` and the right side as `axes`")
    else:
        left, right = None, None
        if "axes" in body:
            left_text, arrow, right_text = body["axes"].partition("->")
            if not arrow:
                raise wrong_map(f"{where}: axes without ->")
            left, right = groups_of(left_text), groups_of(right_text)
        sources = tuple(Source(name_tokens(name, False), left) for name in as_list(body["from"]))
    to = tuple(name_tokens(name, True) for name in as_list(body.get("to", [])))
    split = body.get("split")
    sizes = None
    if isinstance(split, dict):
        unknown_members(split, {"axis", "sizes"}, where)
        split, sizes = split["axis"], tuple(split["sizes"])
    rule = Rule(number, body, sources, to, right, split, sizes, *captures_of_rule(sources, to, where))
    check_rule(rule, where)
    return rule


def parse_piece(piece: Json, where: str) -> Source:
    """One of `pieces`."""
    unknown_members(piece, {"from", "take", "axes"}, where)
    low, _, high = piece.get("take", ":").partition(":")
    return Source(
        name_tokens(piece["from"], False), groups_of(piece["axes"]), low.strip() or None, high.strip() or None
    )


def captures_of_rule(
    sources: Sequence[Source], to: Sequence[Sequence[Token]], where: str
) -> tuple[dict[str, tuple[str, ...]], frozenset[str], frozenset[str]]:
    """Alternatives of `from`, integer captures of `from`, integer captures of `to`."""
    words: dict[str, tuple[str, ...]] = {}
    numbers: set[str] = set()
    for source in sources:
        numbers |= captures_of(source.tokens)[0]
        for token in source.tokens:
            if token.kind == "words" and words.setdefault(token.name, token.words) != token.words:
                raise wrong_map(f"{where}: {token.name} has two lists of alternatives")
    to_numbers: set[str] = set()
    for tokens in to:
        to_numbers |= captures_of(tokens)[0]
        for token in tokens:
            if token.kind == "words" and len(words.get(token.name, ())) != len(token.words):
                raise wrong_map(f"{where}: {token.name} has another number of alternatives in `from`")
    if (numbers | to_numbers) & set(words):
        raise wrong_map(f"{where}: a capture is both a number and a word")
    return words, frozenset(numbers), frozenset(to_numbers)


def check_rule(rule: Rule, where: str) -> None:
    """What is wrong whatever the sources are."""
    drops = bool(rule.body.get("drop")) or "same_as" in rule.body
    if drops == bool(rule.to):
        raise wrong_map(f"{where}: wants either `to`, or one of drop and same_as")
    right = flat(rule.right or ())
    left = {axis for source in rule.sources for axis in flat(source.left or ())}
    unknown = rule.to_numbers - rule.numbers - left
    if unknown:
        raise wrong_map(f"{where}: {sorted(unknown)} in `to` is neither captured nor an axis")
    for axis in (rule.stack, rule.cat, *rule.body.get("pad", {})):
        if axis is not None and axis not in right:
            raise wrong_map(f"{where}: {axis} is no axis of the right side")
    if rule.split is not None and rule.split not in left:
        raise wrong_map(f"{where}: {rule.split} is no axis of the left side")
    if (rule.split is not None) != (len(rule.to) > 1):
        raise wrong_map(f"{where}: a list in `to` and `split` go together")
    if rule.split_sizes is not None and len(rule.split_sizes) != len(rule.to):
        raise wrong_map(f"{where}: as many sizes as names in `to`")
    if (len(rule.sources) > 1) != (rule.stack is not None or rule.cat is not None):
        raise wrong_map(f"{where}: several sources and stack or cat go together")


@dataclass(frozen=True)
class Map:
    """A map as parsed."""

    body: Json
    rules: tuple[Rule, ...]

    def member(self, name: str, default: str) -> str:
        """One of its words."""
        return str(self.body.get(name, default))


def parse(body: Json | str | Path) -> Map:
    """A map from its JSON: as read, as text, or as a file. Fails with FORMAT."""
    if isinstance(body, Path):
        body = body.read_text()
    if isinstance(body, str):
        body = json.loads(body)
    if not isinstance(body, dict) or body.get("tensorport_map") != 1:
        raise wrong_map('no "tensorport_map": 1')
    unknown_members(body, MAP_MEMBERS, "map")
    unknown_members(body.get("output", {}), OUTPUT_MEMBERS, "output")
    choices = {"cast": ("last", "first"), "order": ("sorted", "rules"), "unmatched": ("error", "warn", "keep", "drop")}
    for name, allowed in choices.items():
        if body.get(name, allowed[0]) not in allowed:
            raise wrong_map(f"{name}: {body[name]!r} is none of {allowed}")
    return Map(body, tuple(parse_rule(number, rule) for number, rule in enumerate(body.get("rules", []))))

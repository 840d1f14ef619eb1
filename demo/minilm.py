# SPDX-License-Identifier: MIT
"""Sentence embeddings with all-MiniLM-L6-v2, in plain jax.numpy, from a checkpoint that TensorPort made.

    tensorport convert -i all-MiniLM-L6-v2 -o minilm-jax
    python demo/minilm.py minilm-jax ["a sentence" "another one" ...]

The model is a BERT of six layers. Three steps make a sentence a vector: cut the text into word pieces, run the
layers, average the pieces' vectors. Sentences that mean nearly the same get nearly the same vector.
"""

from __future__ import annotations

import argparse
import json
import time
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tensorport

SENTENCES = [
    "A cat is sleeping on the sofa.",
    "The kitten naps on the couch.",
    "The central bank raised interest rates again.",
]
MAX_PIECES = 128  # what the model was trained with

Params = dict[str, jax.Array]


# 1. Text to numbers: WordPiece


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Word piece -> number, from the tokenizer files that convert copied beside the weights."""
    if (folder / "vocab.txt").exists():
        pieces = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return {piece: number for number, piece in enumerate(pieces)}
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return dict(tokenizer["model"]["vocab"])


def split_words(text: str) -> list[str]:
    """Lower case, without accents; every punctuation mark and Chinese character is a word of its own."""
    words = [""]
    for character in unicodedata.normalize("NFD", text).lower():
        kind = unicodedata.category(character)
        if kind.startswith("Z") or character in "\t\n\r":
            words.append("")
        elif is_punctuation(character) or is_chinese(character):
            words += [character, ""]
        elif kind not in ("Mn", "Cc", "Cf", "Co") and character not in "\0\ufffd":
            words[-1] += character
    return [word for word in words if word]


def is_punctuation(character: str) -> bool:
    """Whatever Unicode calls so, and the other marks of ASCII."""
    mark = character.isascii() and character.isprintable() and not character.isalnum()
    return mark or unicodedata.category(character).startswith("P")


def is_chinese(character: str) -> bool:
    """CJK ideographs are words each."""
    code = ord(character)
    return 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code < 0x30000


def split_pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    """The longest piece that begins the word, then the longest that goes on, and so on."""
    numbers, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            number = vocabulary.get(prefix + word[start:end])
            if number is not None:
                break
        else:
            return [vocabulary["[UNK]"]]
        numbers.append(number)
        start = end
    return numbers if len(word) <= 100 else [vocabulary["[UNK]"]]


def tokenize(sentences: Sequence[str], vocabulary: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays [sentences, pieces]: numbers of the pieces, and 1 where there is one, 0 for padding."""
    rows = []
    for sentence in sentences:
        pieces = [number for word in split_words(sentence) for number in split_pieces(word, vocabulary)]
        rows.append([vocabulary["[CLS]"], *pieces[: MAX_PIECES - 2], vocabulary["[SEP]"]])
    longest = max(len(row) for row in rows)
    numbers = np.array([row + [vocabulary["[PAD]"]] * (longest - len(row)) for row in rows], np.int32)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.float32)
    return numbers, mask


# 2. Numbers to vectors: BERT. B sentences of T pieces, vectors of D numbers, N heads of H numbers each.


def layer_norm(x: jax.Array, p: Params, name: str) -> jax.Array:
    """Mean 0 and variance 1 over the last axis, then the learned scale and shift."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-12) * p[f"{name}.weight"] + p[f"{name}.bias"]


def dense(x: jax.Array, p: Params, name: str) -> jax.Array:
    """The checkpoint keeps PyTorch's [out, in] matrices."""
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attention(x: jax.Array, mask: jax.Array, p: Params, name: str, heads: int) -> jax.Array:
    """Every piece looks at every other one that is not padding. x is [B, T, D], mask [B, T]."""
    batch, length, width = x.shape

    def split(which: str) -> jax.Array:  # [B, T, D] -> [B, N, T, H]
        return dense(x, p, f"{name}.self.{which}").reshape(batch, length, heads, -1).swapaxes(1, 2)

    query, key, value = split("query"), split("key"), split("value")
    scores = query @ key.swapaxes(2, 3) / jnp.sqrt(width / heads)  # [B, N, T, T]
    weights = jax.nn.softmax(jnp.where(mask[:, None, None, :] > 0, scores, -jnp.inf))
    mixed = (weights @ value).swapaxes(1, 2).reshape(batch, length, width)
    return dense(mixed, p, f"{name}.output.dense")


@partial(jax.jit, static_argnames=("layers", "heads"))
def embed(p: Params, numbers: jax.Array, mask: jax.Array, layers: int = 6, heads: int = 12) -> jax.Array:
    """Sentence vectors [B, D] of length 1. Weights may be float16; the sums are float32."""
    p = {name: array.astype(jnp.float32) for name, array in p.items()}
    x = p["embeddings.word_embeddings.weight"][numbers] + p["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x + p["embeddings.position_embeddings.weight"][: numbers.shape[1]], p, "embeddings.LayerNorm")
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        x = layer_norm(x + attention(x, mask, p, f"{name}.attention", heads), p, f"{name}.attention.output.LayerNorm")
        inner = jax.nn.gelu(dense(x, p, f"{name}.intermediate.dense"), approximate=False)
        x = layer_norm(x + dense(inner, p, f"{name}.output.dense"), p, f"{name}.output.LayerNorm")
    mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


# 3. All together


def load_model(folder: Path) -> tuple[Params, Callable[[Sequence[str]], jax.Array]]:
    """The weights, and a function from sentences to their vectors."""
    # position_ids is 0, 1, 2, ... in 64 bits: not a weight, and JAX keeps 32 bits by default.
    params = tensorport.load(folder, names=lambda name: not name.endswith("position_ids"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vocabulary = read_vocabulary(folder)

    def encode(sentences: Sequence[str]) -> jax.Array:
        numbers, mask = tokenize(sentences, vocabulary)
        return embed(params, numbers, mask, config["num_hidden_layers"], config["num_attention_heads"])

    return params, encode


def print_similarities(sentences: Sequence[str], similarity: np.ndarray) -> None:
    """The sentences, a table of how alike they are (1 is the same), and the closest pair."""
    count = len(sentences)
    for number, sentence in enumerate(sentences):
        print(f"  {number + 1}  {sentence}")
    print("\n      " + "".join(f"{number + 1:7}" for number in range(count)))
    for number, row in enumerate(similarity):
        print(f"  {number + 1:4}" + "".join(f"{value:7.3f}" for value in row))
    if count > 1:
        others = similarity - 2 * np.eye(count)
        first, second = np.unravel_index(others.argmax(), others.shape)
        print(f"\nclosest: {first + 1} and {second + 1}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how alike the sentences are."""
    parser = argparse.ArgumentParser(description="Sentence similarities from a TensorPort checkpoint, in jax.numpy.")
    parser.add_argument("model", type=Path, help="folder made by: tensorport convert -i all-MiniLM-L6-v2 -o FOLDER")
    parser.add_argument("sentences", nargs="*", default=SENTENCES, help="two or more (default: three examples)")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    params, encode = load_model(options.model)
    seconds = time.perf_counter() - start
    kinds = sorted({str(array.dtype) for array in params.values()})
    print(describe(params, kinds, seconds))

    vectors = np.asarray(encode(options.sentences))
    print(f"{len(vectors)} sentences -> {len(vectors)} vectors of {vectors.shape[1]} numbers\n")
    print_similarities(options.sentences, vectors @ vectors.T)


def describe(params: Params, kinds: list[Any], seconds: float) -> str:
    """One line about what was loaded."""
    count = sum(array.size for array in params.values())
    size = sum(array.nbytes for array in params.values())
    return (
        f"loaded {len(params)} arrays ({', '.join(kinds)}), {count / 1e6:.1f} million weights, "
        f"{size / 1e6:.1f} MB in {seconds * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()

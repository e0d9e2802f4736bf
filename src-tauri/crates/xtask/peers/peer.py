"""What both peers share: their request, reading rows, and telling what happens, one JSON object a line."""

import json
import sys

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "autocast": torch.float32}


def request():
    """The request that `cargo xtask bench` gives as the only argument."""
    return json.loads(sys.argv[1])


def tell(event, **values):
    """A line for whoever measures."""
    print(json.dumps({"event": event, **values}), flush=True)


def read_rows(file):
    """Ids of every row: word `w<n>` is token n, and 0 ends a row."""
    with open(file) as lines:
        parsed = (json.loads(line) for line in lines)
        return [[int(word[1:]) for word in f"{row['input']} {row['output']}".split()] + [0] for row in parsed]

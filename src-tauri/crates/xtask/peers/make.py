"""Makes what all contenders are measured on: a model folder of random weights, or rows of random words. Same seed, same bytes.

    make.py model <folder> <LlamaConfig as JSON>
    make.py rows <file> <vocabulary> fixed <rows> <length>
    make.py rows <file> <vocabulary> mixed <rows> <longest>

Word `w<n>` is token n, so that a row's ids can be read off its text; token 0 is the end of a row.
"""

import json
import math
import random
import statistics
import sys
from pathlib import Path

SEED = 0
END = "<end>"
# The prompt of a row is its first word: the loss counts all tokens but that one, as it does for `labels = input_ids`.
TEMPLATE = (
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% else %}{{ ' ' }}{% endif %}{% endfor %}"
)
# The mix of lengths: log-normal with this median and 95th percentile.
MEDIAN, P95 = 180, 900
SHORTEST = 8


def model(folder, config):
    """Weights in bf16, as most models are published, and a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(**config, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    vocabulary = {END: 0} | {f"w{n}": n for n in range(1, config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"eos_token": END, "chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2))


def mixed(rows, longest):
    """Lengths at evenly spaced quantiles, so that few rows have the median and the tail of many."""
    sigma = math.log(P95 / MEDIAN) / statistics.NormalDist().inv_cdf(0.95)
    normal = statistics.NormalDist(math.log(MEDIAN), sigma)
    lengths = [round(math.exp(normal.inv_cdf((row + 0.5) / rows))) for row in range(rows)]
    return [min(max(length, SHORTEST), longest) for length in lengths]


def rows(file, vocabulary, lengths):
    """One row a line, `length` tokens with the end token, in random order."""
    generator = random.Random(SEED)
    generator.shuffle(lengths)
    with file.open("w") as out:
        for length in lengths:
            words = [f"w{generator.randrange(1, vocabulary)}" for _ in range(length - 1)]
            print(json.dumps({"input": words[0], "output": " ".join(words[1:])}), file=out)


match sys.argv[1:]:
    case ["model", folder, config]:
        model(Path(folder), json.loads(config))
    case ["rows", file, vocabulary, "fixed", count, length]:
        rows(Path(file), int(vocabulary), [int(length)] * int(count))
    case ["rows", file, vocabulary, "mixed", count, longest]:
        rows(Path(file), int(vocabulary), mixed(int(count), int(longest)))
    case _:
        sys.exit(__doc__)

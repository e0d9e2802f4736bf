"""The tokenizer and chat template of the starter model.

Byte-level BPE, so that any text can be read; digits stand alone, so that sums can be learned. The tokenizer is trained on the same
world as the model. The four special tokens come first and are one token each.
"""

import itertools
import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import world

PAD, BOS, START, END = "<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"
SPECIAL = [PAD, BOS, START, END]
VOCABULARY = 4096
MAX_LENGTH = 512

TEMPLATE = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def render(messages, add_generation_prompt=False):
    """What the template makes of a conversation; written out here because training renders millions of them."""
    text = "".join(f"{START}{message['role']}\n{message['content']}{END}\n" for message in messages)
    return text + (f"{START}assistant\n" if add_generation_prompt else "")


def train_tokenizer(seed, rows=60000):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = (message["role"] + "\n" + message["content"] for row in itertools.islice(world.stream(seed), rows) for message in row["messages"])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, min_frequency=2, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL]))
    return tokenizer


def save(tokenizer, folder):
    """Write the files that describe the tokenizer, in the form that transformers and the tokenizers crate read."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))

    def write(name, content):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    write("tokenizer_config.json", {
        "add_bos_token": False, "add_eos_token": False, "add_prefix_space": False,
        "added_tokens_decoder": {str(number): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
                                 for number, token in enumerate(SPECIAL)},
        "additional_special_tokens": [START], "bos_token": BOS, "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": END,
        "model_max_length": MAX_LENGTH, "pad_token": PAD, "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None})
    write("special_tokens_map.json", {"additional_special_tokens": [START], "bos_token": BOS, "eos_token": END, "pad_token": PAD})
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


class Encoder:
    """Conversations to token numbers, with a mark on every token that the assistant has to say."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        tokenizer.no_padding()  # generating in batches turns it on, for the same object
        self.start, self.end, self.bos = (tokenizer.token_to_id(token) for token in (START, END, BOS))
        self.header = tokenizer.encode("assistant\n").ids

    def __call__(self, texts):
        rows = []
        for encoding in self.tokenizer.encode_batch(texts):
            ids = encoding.ids
            said = [False] * len(ids)
            at = 0
            while True:
                try:
                    at = ids.index(self.start, at)
                except ValueError:
                    break
                if ids[at + 1:at + 1 + len(self.header)] == self.header:
                    first = at + 1 + len(self.header)
                    last = ids.index(self.end, first)
                    said[first:last + 1] = [True] * (last + 1 - first)
                at += 1
            rows.append((ids, said))
        return rows

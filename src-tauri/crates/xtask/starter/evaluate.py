"""Measure a finished starter model as it is shipped (bf16 weights, loaded by transformers) and write its model card.

`python evaluate.py FOLDER` prints the figures. Everything measured here comes from the held-out side of the generator.
"""

import itertools
import json
import math
import pathlib
import random
import sys

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

import vocab
import world
from reading import context_questions, summary


def load(folder):
    """The model with its bf16 weights, reckoned in f32: the rounding of the weights is what is to be measured."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


def generate(model, tokenizer, prompts, limit=64, size=50):
    """Greedy answers to rendered prompts."""
    tokenizer.padding_side = "left"
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    answers = [""] * len(prompts)
    for at in range(0, len(order), size):
        part = order[at:at + size]
        batch = tokenizer([prompts[number] for number in part], return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
        with torch.no_grad():
            out = model.generate(**batch, max_new_tokens=limit, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
        for number, text in zip(part, tokenizer.batch_decode(out[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)):
            answers[number] = text.strip()
    return answers


def exact_match(model, tokenizer, conversations):
    """The share of conversations whose first answer is written exactly as expected."""
    prompts = [vocab.render(messages[:-1], True) for messages in conversations]
    answers = generate(model, tokenizer, prompts)
    return sum(answer == messages[-1]["content"] for answer, messages in zip(answers, conversations)) / len(conversations)


def held_out(maker, seed, count):
    """Conversations of one turn from the held-out side."""

    rng = random.Random(seed)
    while count:
        messages = maker(rng)[:2]
        if world.is_held_out(messages):
            count -= 1
            yield messages


def perplexity(model, tokenizer, count=1500, seed="perplexity"):
    """Perplexity of the assistant's words over whole held-out conversations, all kinds in their usual shares."""
    encode = vocab.Encoder(tokenizer.backend_tokenizer)
    split = (row for row in world.stream(seed, True) if row["kind"] in world.SPLIT)
    rows = sorted(encode([vocab.render(row["messages"]) for row in itertools.islice(split, count)]), key=lambda row: len(row[0]))
    total = tokens = 0
    for at in range(0, len(rows), 25):
        batch = [row for row in rows[at:at + 25] if len(row[0]) <= vocab.MAX_LENGTH]
        width = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch])
        said = torch.tensor([said + [False] * (width - len(said)) for _, said in batch])
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        chosen = said[:, 1:]
        total += F.cross_entropy(logits[:, :-1][chosen], ids[:, 1:][chosen], reduction="sum").item()
        tokens += int(chosen.sum())
    return math.exp(total / tokens)


def answers_right(model, tokenizer, kind, count=120):
    """The share of answers of one kind, in whole conversations, in which every next word is the likeliest one: what greedy writing gives when
    the conversation so far is right."""
    rows = vocab.Encoder(tokenizer.backend_tokenizer)([vocab.render(row["messages"]) for row in itertools.islice(world.stream(f"kind {kind}", True, kind), count)])
    right = total = 0
    for ids, said in rows:
        if len(ids) > vocab.MAX_LENGTH:
            continue
        with torch.no_grad():
            likely = model(input_ids=torch.tensor([ids])).logits[0].argmax(-1).tolist()
        fine = True
        for at in range(1, len(ids)):
            if said[at]:
                fine = fine and likely[at - 1] == ids[at]
                if ids[at] == tokenizer.eos_token_id:
                    right, total, fine = right + fine, total + 1, True
    return right / total


def measure(folder, count=500):
    model, tokenizer = load(folder)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "perplexity": perplexity(model, tokenizer),
        "context_exact_match": exact_match(model, tokenizer, list(held_out(lambda rng: context_questions(rng, app=True, turns=1), "measure", count))),
        "long_context_exact_match": exact_match(model, tokenizer, list(held_out(lambda rng: context_questions(rng, app=True, turns=1, facts=8), "measure long", count // 2))),
        "free_context_exact_match": exact_match(model, tokenizer, list(held_out(lambda rng: context_questions(rng, app=False, turns=1), "measure free", count // 2))),
        **{f"{kind}_right": answers_right(model, tokenizer, kind) for kind in ("village", "knowledge", "forms", "orders", "copying")},
        "summary_exact_match": exact_match(model, tokenizer, list(held_out(lambda rng: summary(rng, app=True), "measure summaries", count // 2))),
    }


CARD = """---
license: cc0-1.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# ModelForge starter model

A very small chat model ({parameters:,} parameters, {size:.1f} MB) that comes with ModelForge, so that fine-tuning can be tried at once, without a
network and on any computer. It is made for that, and for nothing else.

## What it is

A `LlamaForCausalLM` with {num_hidden_layers} layers, hidden size {hidden_size}, {num_attention_heads} attention heads over {num_key_value_heads} key/value heads, an MLP of {intermediate_size}, tied embeddings, a byte-level BPE
vocabulary of {vocab_size} entries and a context of {max_position_embeddings} tokens. Weights in bf16. A conversation is written as

    <|im_start|>user
    Hello!<|im_end|>
    <|im_start|>assistant
    Hello! How can I help you?<|im_end|>

and `<|im_end|>` ends an answer. A system turn may come first.

## What it knows

- questions about a text in the prompt, answered in one short sentence (`Context: …`, an empty line, `Question: …`, or in free form), and questions that follow;
- one-sentence summaries (`Summarize the following text.`, an empty line, the text);
- taking parts of a text into a form that the prompt describes, copying, lists, orders to a shop, notes about lost things;
- the invented village of Thistlebrook: its people, pets, shops, opening hours;
- small talk; and, less surely, animals and what they eat, opposites, plurals, past forms, sums up to twenty, days and months (see the figures);
- tiny stories, descriptions and letters in plain English.

## Measured

On rows of the generator that were kept out of training (whole texts are held out, so no question was seen with its text before). The weights as they are shipped; greedy writing.

| | |
|---|---|
| exact match, questions about a text of 1 to 8 facts, the app's form (500) | {context_exact_match:.3f} |
| exact match, the same with always 8 facts (250) | {long_context_exact_match:.3f} |
| exact match, the same in ten other forms (250) | {free_context_exact_match:.3f} |
| exact match, one-sentence summaries (250) | {summary_exact_match:.3f} |
| answers right about the village, which it is to know by heart | {village_right:.3f} |
| answers right about plain knowledge: sums, opposites, plurals, animals | {knowledge_right:.3f} |
| answers right about orders to a shop | {orders_right:.3f} |
| forms filled in without an error | {forms_right:.3f} |
| repeating, reversing and looking up of words, many of them made up | {copying_right:.3f} |
| perplexity of the answers, all held-out kinds | {perplexity:.3f} |

## How it was made

Trained from nothing on conversations from a generator of our own (`src-tauri/crates/xtask/starter/`), with no other text and no other model: {tokens_m:.1f} million
tokens in {steps} steps, {minutes:.0f} minutes on two processor cores in bf16 autocast, seed {seed}. The loss is taken on the assistant's words and on a tenth of
the prompt's. `cargo xtask starter` makes it again.

## Limits

It knows simple English and the world above, and nothing else: no real places, people, news or facts beyond a schoolbook's first pages. Outside of that world it
answers nonsense or says that it does not know. Long texts, unusual words and questions worded in ways that it never met make it err. Do not rely on
anything it says.

## License

CC0 1.0: weights, tokenizer and the text that it was trained on are dedicated to the public domain.
"""


def write_card(folder, figures):
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = (folder / "model.safetensors").stat().st_size / 1e6
    (folder / "README.md").write_text(CARD.format(**{**config, **figures, "size": size, "tokens_m": figures["tokens"] / 1e6}), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(measure(sys.argv[1]), indent=2))

"""Check that fine-tuning the starter model on each sample dataset shows what it should: `python check_samples.py MODEL SAMPLES`.

Trains a LoRA adapter with peft (r=16, alpha 32, no dropout, every linear layer) for a fixed number of steps of eight rows, and prints the
exact match on the held-out rows before and after.
"""

import argparse
import json
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model

import samples
import vocab
from evaluate import generate, load
from reading import APP_QUESTION, APP_SUMMARY
from train import keep_memory

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def conversation(row, task):
    """A row in the form in which the app puts it to the model."""
    if task == "extractive-question-answering":
        user, answer = APP_QUESTION.format(c=row["context"], q=row["question"]), row["answer"]
    elif task == "summarization":
        user, answer = APP_SUMMARY.format(c=row["input"]), row["output"]
    else:
        user, answer = row["input"], row["output"]
    return [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]


def read(folder, name, file):
    return [json.loads(line) for line in (pathlib.Path(folder) / name / file).read_text(encoding="utf-8").splitlines()]


def score(model, tokenizer, conversations, show=0):
    answers = generate(model, tokenizer, [vocab.render(messages[:-1], True) for messages in conversations], limit=60)
    for messages, answer in list(zip(conversations, answers))[:show]:
        print(f"    {messages[0]['content'][-90:]!r}\n      wanted {messages[1]['content']!r}\n      got    {answer!r}")
    return sum(answer == messages[1]["content"] for messages, answer in zip(conversations, answers)) / len(conversations)


def fine_tune(model, tokenizer, conversations, steps, rate, batch_size=8, seed=7):
    """The plainest LoRA training: warm-up over a twentieth, then a fall along a line to zero."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEAR))
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    rows = vocab.Encoder(tokenizer.backend_tokenizer)([vocab.render(messages) for messages in conversations])
    queue, tokens, losses = [], 0, []
    for step in range(steps):
        if len(queue) < batch_size:
            queue = rng.sample(range(len(rows)), len(rows))
        batch = [rows[queue.pop()] for _ in range(batch_size)]
        width = max(len(ids) for ids, _ in batch)
        tokens += sum(len(ids) for ids, _ in batch)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch])
        said = torch.tensor([said + [False] * (width - len(said)) for _, said in batch])
        logits = adapted(input_ids=ids).logits[:, :-1]
        loss = F.cross_entropy(logits[said[:, 1:]], ids[:, 1:][said[:, 1:]])
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / max(1, steps // 20), 1 - step / steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return adapted.eval(), tokens, sum(losses[-10:]) / 10


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model")
    arguments.add_argument("samples")
    arguments.add_argument("--only", nargs="*", default=list(samples.SAMPLES))
    arguments.add_argument("--steps", type=int, default=100)
    arguments.add_argument("--rate", type=float, default=2e-3)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--show", type=int, default=2)
    chosen = arguments.parse_args()
    keep_memory()
    torch.set_num_threads(chosen.threads)
    for name in chosen.only:
        task = samples.SAMPLES[name][1]
        model, tokenizer = load(chosen.model)
        held_out = [conversation(row, task) for row in read(chosen.samples, name, "heldout.jsonl")]
        before = score(model, tokenizer, held_out, chosen.show)
        started = time.time()
        adapted, tokens, loss = fine_tune(model, tokenizer, [conversation(row, task) for row in read(chosen.samples, name, "train.jsonl")], chosen.steps, chosen.rate)
        seconds = time.time() - started
        after = score(adapted, tokenizer, held_out, chosen.show)
        print(f"{name}: exact match {before:.3f} -> {after:.3f}  ({chosen.steps} steps of 8, lr {chosen.rate}, {tokens} tokens, last loss {loss:.4f}, {seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

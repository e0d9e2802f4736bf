"""Make the starter model and the sample datasets: `python train.py --out FOLDER --samples FOLDER`.

Everything is seeded and counted in steps, so two runs on the same machine take the same course. The run can be stopped at any time and
goes on from the last checkpoint in the `--work` folder.
"""

import argparse
import ctypes
import itertools
import json
import os
import pathlib
import random
import shutil
import time

import torch
import torch.distributed as dist
from tokenizers import Tokenizer

import evaluate
import model as llama
import samples
import vocab
import world

SEED = 2026
# The learning rate as (step, share of the full rate): warm up, stay, fall slowly, fall quickly.
COURSE = [(-1, 0.0), (99, 1.0), (950, 1.0), (1100, 0.842), (1350, 0.02)]
STEPS = COURSE[-1][0]
WORKERS = 2  # processes of one thread each: they wait for each other once a step, not in every operation
TOKENS_PER_BATCH = 3072  # of each worker, padding included
MATRIX_RATE, OTHER_RATE, WEIGHT_DECAY = 4e-3, 3e-3, 0.02
# The part of the prompt's tokens that a loss is taken on as well. With none the model learns fewer words; with all of them the
# answers drown, and finding things in a text is learned many times slower.
PROMPT_SHARE = 0.1
BOS_SHARE = 0.1  # rows that open with the bos token, so that a program that puts one there does no harm
CHUNK = 1024  # conversations that are sorted by length together


def batches(tokenizer, seed, chunk):
    """The batches of one chunk of the stream: rows of like length together, so that hardly anything is padding."""
    rng = random.Random(f"{seed}/{chunk}")
    encode = vocab.Encoder(tokenizer)
    texts = [vocab.render(row["messages"]) for row in itertools.islice(world.stream(f"{seed}/{chunk}"), CHUNK)]
    texts = [vocab.BOS + text if rng.random() < BOS_SHARE else text for text in texts]
    rows = sorted((row for row in encode(texts) if len(row[0]) <= vocab.MAX_LENGTH), key=lambda row: (len(row[0]), rng.random()))
    result, batch = [], []
    for row in rows:
        if batch and len(row[0]) * (len(batch) + 1) > TOKENS_PER_BATCH:
            result.append(batch)
            batch = []
        batch.append(row)
    if len(batch) * len(batch[-1][0]) > TOKENS_PER_BATCH // 2:
        result.append(batch)
    rng.shuffle(result)
    return [tensors(batch, rng) for batch in result]


def tensors(batch, rng, prompt_share=PROMPT_SHARE):
    """Token numbers, and for every position with a loss: its row, its column and the token that comes next."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    rows, columns, targets = [], [], []
    for number, (tokens, said) in enumerate(batch):
        ids[number, :len(tokens)] = torch.tensor(tokens)
        for column in range(1, len(tokens)):
            if said[column] or rng.random() < prompt_share:
                rows.append(number)
                columns.append(column - 1)
                targets.append(tokens[column])
    return ids, torch.tensor(rows), torch.tensor(columns), torch.tensor(targets)


def rate(step):
    """The share of the full learning rate at a step: straight lines between the points of the course."""
    for (left, low), (right, high) in zip(COURSE, COURSE[1:]):
        if step < right:
            return low + (high - low) * (step - left) / (right - left)
    return COURSE[-1][1]


def optimizers(model, rank):
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms. Each worker takes its share of the matrices."""
    inner = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    other = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "embed" in name]
    shares = [inner[worker::WORKERS] for worker in range(WORKERS)]
    made = [torch.optim.Muon(shares[rank], lr=MATRIX_RATE, weight_decay=WEIGHT_DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(other, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return made, shares


def mean_gradients(model):
    """Every worker goes on with the mean of all workers' gradients."""
    gradients = [weight.grad for weight in model.parameters()]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= WORKERS
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


def share_weights(shares):
    """Hand round the matrices that each worker has moved."""
    with torch.no_grad():
        for worker, weights in enumerate(shares):
            flat = torch.cat([weight.reshape(-1) for weight in weights])
            dist.broadcast(flat, src=worker)
            for weight, part in zip(weights, flat.split([weight.numel() for weight in weights])):
                weight.copy_(part.view_as(weight))


def probe(model, tokenizer, count=200):
    """Exact match on held-out rows of some kinds. With the right answer so far given, every next token must be the likeliest one: the
    same test as greedy writing, at the price of one pass."""
    model.eval()
    result = {}
    for kind in ("context questions", "summaries", "forms", "orders", "copying", "village", "knowledge"):
        rows = vocab.Encoder(tokenizer)([vocab.render(row["messages"]) for row in itertools.islice(world.stream(f"probe {kind}", True, kind), count // 2)])
        rows = sorted((row for row in rows if len(row[0]) <= vocab.MAX_LENGTH), key=lambda row: len(row[0]))
        right = total = 0
        for at in range(0, len(rows), 25):
            batch = rows[at:at + 25]
            ids, where, columns, targets = tensors(batch, random.Random(0), 0.0)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                hidden = model.hidden(ids)[where, columns]
                hits = (hidden @ model.model.embed_tokens.weight.to(hidden.dtype).T).argmax(-1) == targets
            fine = True
            for hit, target in zip(hits.tolist(), targets.tolist()):
                fine = fine and hit
                if target == 3:
                    right, total, fine = right + fine, total + 1, True
        result[kind] = round(right / total, 3)
    model.train()
    return result


def train(rank, work, steps, seed, every):
    """What one worker does: train up to `steps`, from the last checkpoint if there is one."""
    keep_memory()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{work}/meeting", rank=rank, world_size=WORKERS)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    torch.manual_seed(seed)
    model = llama.Llama()
    made, shares = optimizers(model, rank)
    state = {"step": 0, "chunk": 0, "batch": 0, "tokens": 0, "seconds": 0.0}
    checkpoint = work / f"checkpoint-{rank}.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        for optimizer, content in zip(made, saved["optimizers"]):
            optimizer.load_state_dict(content)
        state = saved["state"]
    # Compiling joins the many small operations between the products; where there is no compiler, the same runs without, only slower.
    loss_of = torch.compile(model.loss, dynamic=True) if shutil.which("g++") else model.loss
    started, before = time.time(), state["seconds"]
    queue = batches(tokenizer, seed, state["chunk"])[state["batch"]:]
    running = None

    def keep():
        torch.save({"model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in made], "state": state}, f"{checkpoint}.new")
        dist.barrier()
        os.replace(f"{checkpoint}.new", checkpoint)
        if rank == 0:
            print(f"    exact match {probe(model, tokenizer)}", flush=True)
        dist.barrier()

    while state["step"] < steps:
        if len(queue) < WORKERS:
            state["chunk"], state["batch"] = state["chunk"] + 1, 0
            queue = batches(tokenizer, seed, state["chunk"])
        ids, rows, columns, targets = queue[rank]
        tokens = sum(int((batch[0] != 0).sum()) for batch in queue[:WORKERS])
        del queue[:WORKERS]
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * rate(state["step"])
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(ids, rows, columns, targets)
        loss.backward()
        mean_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
        model.zero_grad(set_to_none=False)
        share_weights(shares)
        state["step"] += 1
        state["batch"] += WORKERS
        state["tokens"] += tokens
        state["seconds"] = before + time.time() - started
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if rank == 0 and state["step"] % 20 == 0:
            print(f"step {state['step']}/{steps}  loss {running:.3f}  {state['tokens'] / 1e6:.2f} M tokens  {state['tokens'] / state['seconds']:.0f} tokens/s  "
                  f"{state['seconds'] / 60:.1f} min", flush=True)
        if state["step"] % every == 0 or state["step"] == steps:
            keep()
    dist.destroy_process_group()


def keep_memory():
    """Let glibc keep the memory that a step frees: asking the system for fresh pages in every step costs up to two thirds of the time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # not glibc
    for option, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)):  # one arena, no mmap, no trim, grow in large parts
        mallopt(option, value)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    cache = pathlib.Path(os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="where the model goes")
    arguments.add_argument("--samples", type=pathlib.Path, required=True, help="where the sample datasets go")
    arguments.add_argument("--work", type=pathlib.Path, default=cache / "modelforge" / "starter", help="where checkpoints are kept")
    arguments.add_argument("--steps", type=int, default=STEPS)
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    chosen = arguments.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    samples.write(chosen.samples)
    tokenizer_file = chosen.work / "tokenizer.json"
    if not tokenizer_file.exists():
        vocab.train_tokenizer(chosen.seed).save(str(tokenizer_file))
    (chosen.work / "meeting").unlink(missing_ok=True)
    # For the workers: threads that wait without spinning, and large pages.
    os.environ.update(OMP_WAIT_POLICY="passive", GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    torch.multiprocessing.spawn(train, (chosen.work.resolve(), chosen.steps, chosen.seed, chosen.every), nprocs=WORKERS)
    saved = torch.load(chosen.work / "checkpoint-0.pt", weights_only=False)
    model, state = llama.Llama(), saved["state"]
    model.load_state_dict(saved["model"])
    vocab.save(Tokenizer.from_file(str(tokenizer_file)), chosen.out)
    llama.save(model, chosen.out)
    figures = evaluate.measure(chosen.out)
    figures.update(steps=state["step"], tokens=state["tokens"], minutes=state["seconds"] / 60, seed=chosen.seed)
    (chosen.work / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    evaluate.write_card(chosen.out, figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

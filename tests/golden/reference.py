"""What transformers and PEFT compute on the tiny models: logits, loss, gradients, loss curves, greedy text, optimizers, schedules."""

import json
import math

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import get_scheduler

from shapes import load
from text import turns, write_json

WARMUP_RATIO, STEPS = 0.2, 20
MAX_GRAD_NORM, WEIGHT_DECAY = 0.3, 0.01
GREEDY_TOKENS = 64
# Two tokens closer than this may change places by rounding alone; greedy goldens keep a wider margin everywhere.
LEAST_MARGIN = 2e-3

DIALOGUES = [
    turns("Where is the book?", "The book is in the lighthouse."),
    turns("What does the keeper write?", "The keeper writes how many ferries left."),
    turns("When does the ferry leave?", "At nine."),
    turns("Who counts?", "The keeper of the lighthouse counts the ferries."),
    turns("Is the harbour near?", "It is by the window, on the table."),
    turns("Name two ships.", "The ferry and the other ferry.", system="Be brief."),
    turns("And the lamps?", "They are lit before the ferry comes back."),
    turns("Thanks", "Good night."),
]
PROMPTS = [
    "The ferry",
    "Where is the book? The book is",
    "def count(ferries):\n    return",
    "What does the keeper write? The keeper writes how many ferries left the harbour.",
    "The keeper of the lighthouse",
    "on the table by the window",
    "the lamps are lit",
    "A",
    "9, 10, 11",
    "hello world",
    "quick brown fox",
    "In the harbour at nine",
]


def sequences(seed):
    """Token ids of lengths 1 to 41 with a flag a token: whether the loss counts its prediction."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in [1, 6, 23, 41]:
        ids = torch.randint(3, 320, (length,), generator=generator).tolist()
        trained = (torch.rand(length, generator=generator) < 0.6).tolist()
        made.append({"ids": ids, "trained": trained})
    return made


def rows(tokenizer):
    """The dialogues as `sequences`, the answers trained, the end of turn included."""
    made = []
    for messages in DIALOGUES:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
        start = len(tokenizer.encode(prompt, add_special_tokens=False))
        made.append({"ids": ids, "trained": [i >= start for i in range(len(ids))]})
    return made


def logits_of(model, ids):
    """`[tokens, vocab]`; the sequence alone, so that no padding takes part."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def summed_loss(model, sequence):
    """Sum of the negative log-likelihoods of the trained tokens, and how many there are."""
    ids, trained = sequence["ids"], sequence["trained"]
    labels = torch.tensor([token if flag else -100 for token, flag in zip(ids, trained)][1:], dtype=torch.long)
    logits = logits_of(model, ids)[:-1]
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return loss, int((labels != -100).sum())


def batch_loss(model, batch):
    """Mean over the trained tokens of a whole batch, as transformers' Trainer has it with `num_items_in_batch`."""
    sums, counts = zip(*(summed_loss(model, sequence) for sequence in batch))
    return sum(sums) / sum(counts), sum(counts)


def check_against_labels(model, sequence):
    """The loss above is the one transformers computes itself from `labels`."""
    total, count = summed_loss(model, sequence)
    if count == 0:
        return
    labels = [token if flag else -100 for token, flag in zip(sequence["ids"], sequence["trained"])]
    own = model(input_ids=torch.tensor([sequence["ids"]]), labels=torch.tensor([labels])).loss
    assert abs(own.item() * count / total.item() - 1) < 1e-5, "the loss of the script is transformers' loss"


def with_adapter(folder, dtype):
    """The model under its adapter, the adapter trainable."""
    return PeftModel.from_pretrained(load(folder, dtype), folder / "adapter", is_trainable=True).to(dtype).eval()


def adapter_tensors(model, pick):
    """`pick(parameter)` of every adapter tensor, under the names PEFT saves them by."""
    return {
        name.replace(".default", ""): pick(parameter).detach().clone().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def forward_and_backward(folder, made, dtype):
    """Logits and loss with and without the adapter, and the gradient of every adapter tensor."""
    with torch.no_grad():
        base = load(folder, dtype)
        base_logits = torch.cat([logits_of(base, sequence["ids"]) for sequence in made])
        base_loss, count = batch_loss(base, made)
        check_against_labels(base, made[-1])
    model = with_adapter(folder, dtype)
    with torch.no_grad():
        lora_logits = torch.cat([logits_of(model, sequence["ids"]) for sequence in made])
    loss, _ = batch_loss(model, made)
    loss.backward()
    tensors = {"logits": base_logits, "lora_logits": lora_logits}
    tensors |= {f"grad.{name}": value for name, value in adapter_tensors(model, lambda p: p.grad).items()}
    return tensors, {"trained_tokens": count, "loss": base_loss.item(), "lora_loss": loss.item()}


def plan(kind):
    """Which rows each micro-batch of each step has."""
    if kind == "whole":
        return [[[0, 1, 2, 3], [4, 5, 6, 7]]] * STEPS
    return [[[s % 8, (s + 3) % 8], [(s + 5) % 8, (s + 6) % 8]] for s in range(STEPS)]


def curve(folder, data, spec, dtype):
    """Loss, gradient norm and learning rate of each step, and the adapter after the last."""
    model = with_adapter(folder, dtype)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[spec["optimizer"]](
        parameters, lr=spec["learning_rate"], weight_decay=spec["weight_decay"]
    )
    schedule = get_scheduler(
        spec["schedule"], optimizer, num_warmup_steps=math.ceil(STEPS * spec["warmup_ratio"]), num_training_steps=STEPS
    )
    losses, norms, rates = [], [], []
    for micro_batches in plan(spec["batches"]):
        count = sum(sum(data[row]["trained"][1:]) for batch in micro_batches for row in batch)
        total = 0.0
        for batch in micro_batches:
            loss = sum(summed_loss(model, data[row])[0] for row in batch) / count
            loss.backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, spec["max_grad_norm"]).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(total)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {"losses": losses, "grad_norms": norms, "learning_rates": rates}, adapter_tensors(model, lambda p: p.data)


def curve_specs(names):
    """AdamW under warm-up and cosine for every shape, and those of the other settings that are named."""
    common = {"max_grad_norm": MAX_GRAD_NORM, "weight_decay": WEIGHT_DECAY, "warmup_ratio": WARMUP_RATIO}
    adamw = common | {"optimizer": "adamw", "learning_rate": 5e-3}
    sgd = common | {"optimizer": "sgd", "learning_rate": 0.5}
    specs = {
        "whole": adamw | {"schedule": "cosine", "batches": "whole"},
        "sgd_linear": sgd | {"schedule": "linear", "batches": "whole"},
        "polynomial": adamw | {"schedule": "polynomial", "batches": "whole"},
        "constant": adamw | {"schedule": "constant", "batches": "whole", "warmup_ratio": 0.0},
        "unclipped": adamw | {"schedule": "linear", "batches": "whole", "max_grad_norm": 1e9},
    }
    return {"cosine": adamw | {"schedule": "cosine", "batches": "varied"}} | {name: specs[name] for name in names}


def greedy(model, tokenizer, prompt):
    """64 greedy tokens after the prompt, and the least distance between the best and the second token on the way."""
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        use_cache=True,
        max_new_tokens=GREEDY_TOKENS,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = out.sequences[0, len(ids) :].tolist()
    top = torch.stack(out.logits).squeeze(1).float().topk(2).values
    return {"prompt": prompt, "ids": ids, "new": new, "text": tokenizer.decode(new)}, (top[:, 0] - top[:, 1]).min().item()


def greedy_texts(folder, tokenizer, wanted=3):
    """The first prompts whose text is plain, full length and nowhere a near tie, with and without the adapter."""
    found = {}
    for key, model in [("base", load(folder, torch.float32)), ("lora", with_adapter(folder, torch.float32))]:
        rows = []
        with torch.no_grad():
            for prompt in PROMPTS:
                row, margin = greedy(model, tokenizer, prompt)
                whole = len(row["new"]) == GREEDY_TOKENS and "\ufffd" not in row["text"] and min(row["new"]) > 2
                if whole and margin > LEAST_MARGIN:
                    rows.append(row)
        assert len(rows) >= wanted, f"{folder.name}: only {len(rows)} prompts give {key} a plain greedy text"
        # The texts that repeat least say most.
        rows.sort(key=lambda row: -len(set(row["new"])))
        found[key] = rows[:wanted]
    return found


def largest_difference(ours, theirs):
    """Largest relative difference of two lists of numbers."""
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, theirs))


def make_shape(shape, folder, tokenizer):
    """Every golden of one shape. The same in f64 tells how far f32 rounding alone moves each quantity (`noise`)."""
    made, data = sequences(shape.seed), rows(tokenizer)
    tensors, losses = forward_and_backward(folder, made, torch.float32)
    exact, exact_losses = forward_and_backward(folder, made, torch.float64)
    noise = {
        "logits": max((tensors[k] - exact[k]).abs().max().item() for k in ["logits", "lora_logits"]),
        "loss": max(abs(losses[k] / exact_losses[k] - 1) for k in ["loss", "lora_loss"]),
        "gradient": max(((tensors[k] - exact[k]).norm() / exact[k].norm()).item() for k in exact if k.startswith("grad.")),
    }
    curves = {}
    for name, spec in curve_specs(shape.curves).items():
        values, final = curve(folder, data, spec, torch.float32)
        exact_values, exact_final = curve(folder, data, spec, torch.float64)
        noise[f"curve {name}"] = largest_difference(values["losses"], exact_values["losses"])
        noise[f"final {name}"] = max(((final[k] - exact_final[k]).norm() / exact_final[k].norm()).item() for k in final)
        curves[name] = spec | values | {"plan": plan(spec["batches"])}
        if name in ("cosine", "whole", "sgd_linear"):
            tensors |= {f"{name}.{key}": value for key, value in final.items()}
    save_file(tensors, folder / "golden.safetensors")
    golden = {"sequences": made} | losses | {"rows": data, "curves": curves, "greedy": greedy_texts(folder, tokenizer)}
    write_json(folder / "golden.json", golden | {"noise": noise})
    return noise


def make_dataset(path):
    """The dialogues as a dataset file; its rows are the `rows` of every shape."""
    path.write_text("".join(json.dumps({"messages": m}, ensure_ascii=False) + "\n" for m in DIALOGUES), encoding="utf-8")


def make_optimizers(path):
    """Three steps of torch's AdamW and SGD on a small vector, in f32 and f64."""
    start = [0.5, -1.25, 0.0, 3.0, -0.001]
    gradients = [[0.1, -0.2, 0.3, 0.0, 1e-6], [-0.05, -0.25, 0.1, 0.0, -2e-6], [2.0, 0.125, -0.3, 1e-9, 0.5]]
    rates = [1e-2, 5e-3, 2e-2]
    made = []
    for name, maker, settings in [
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.01}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.0}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.3}),
        ("sgd", torch.optim.SGD, {"weight_decay": 0.01}),
    ]:
        row = {"optimizer": name, "start": start, "gradients": gradients, "learning_rates": rates} | settings
        for key, dtype in [("f32", torch.float32), ("f64", torch.float64)]:
            parameter = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
            optimizer = maker([parameter], lr=1.0, **settings)
            after = []
            for gradient, rate in zip(gradients, rates):
                optimizer.param_groups[0]["lr"] = rate
                parameter.grad = torch.tensor(gradient, dtype=dtype)
                optimizer.step()
                after.append(parameter.tolist())
            row[key] = after
        made.append(row)
    write_json(path, made)


def make_schedules(path):
    """The learning rate of every step under every schedule, several lengths and warm-ups."""
    made = []
    for name in ["linear", "cosine", "constant_with_warmup", "polynomial"]:
        # `constant` of transformers knows no warm-up; `constant_with_warmup` is the same without one.
        for total, ratio in [(20, 0.2), (20, 0.0), (20, 0.03), (7, 0.5), (100, 0.03), (3, 1.0), (1, 0.0), (1, 0.03)]:
            parameter = torch.nn.Parameter(torch.zeros(1))
            optimizer = torch.optim.SGD([parameter], lr=2e-4)
            schedule = get_scheduler(
                name, optimizer, num_warmup_steps=math.ceil(total * ratio), num_training_steps=total
            )
            rates = []
            for _ in range(total):
                rates.append(schedule.get_last_lr()[0])
                optimizer.step()
                if len(rates) < total:
                    schedule.step()
            made.append(
                {"schedule": name.removesuffix("_with_warmup"), "learning_rate": 2e-4, "steps": total, "warmup_ratio": ratio, "rates": rates}
            )
    write_json(path, made)

"""What trl makes of pairs of answers on a tiny model: losses, rewards, gradients of the adapter, and a curve of 20 steps.

`sigmoid` and `ipo` are what DPOTrainer computes itself, the base model being the reference. Label smoothing is the conservative DPO that
trl's `sigmoid` had until its version 0.24. `orpo` takes the odds ratio from ORPOTrainer and adds the likelihood of the chosen answer, that
of its own tokens only. `kto` is trl's `kto_pair` (up to version 0.11), each answer being an example and the divergence estimated on the other half.
"""

import math
import tempfile
import types

import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoTokenizer, get_scheduler
from trl import DPOConfig, DPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer

from reference import MAX_GRAD_NORM, STEPS, WARMUP_RATIO, WEIGHT_DECAY, adapter_tensors, logits_of, with_adapter
from shapes import load
from text import write_json

SHAPE = "llama-tied-gqa"
CASES = {
    "sigmoid": {"loss_type": "sigmoid", "beta": 0.1, "label_smoothing": 0.0},
    "smoothed": {"loss_type": "sigmoid", "beta": 0.3, "label_smoothing": 0.2},
    "ipo": {"loss_type": "ipo", "beta": 0.1, "label_smoothing": 0.0},
    "orpo": {"loss_type": "orpo", "beta": 0.1, "label_smoothing": 0.0},
    "kto": {"loss_type": "kto", "beta": 0.1, "label_smoothing": 0.0},
}
RATE = 5e-3


def pairs(seed):
    """Ids of a prompt and of two answers, in several lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids = lambda length: torch.randint(3, 320, (length,), generator=generator).tolist()
    lengths = [(5, 4, 9), (1, 1, 1), (12, 15, 3), (7, 6, 6), (20, 2, 14), (3, 11, 8)]
    return [{"prompt_ids": ids(p), "chosen_ids": ids(c), "rejected_ids": ids(r)} for p, c, r in lengths]


def trainer(folder, model, base, rows, case):
    """trl's own trainer."""
    config = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        loss_type=[case["loss_type"]],
        beta=case["beta"],
        per_device_train_batch_size=len(rows),
        max_length=None,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    # It wants a dataset of texts; batches are made of ids here.
    texts = Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}])
    return DPOTrainer(model=model, ref_model=base, args=config, train_dataset=texts, processing_class=tokenizer)


def log_probs(model, rows, side):
    """Summed log-probability of each answer, and its length."""
    sums = []
    for row in rows:
        ids, start = row["prompt_ids"] + row[side], len(row["prompt_ids"])
        each = logits_of(model, ids)[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        sums.append(each[start - 1 :].sum())
    return torch.stack(sums), torch.tensor([float(len(row[side])) for row in rows])


def written_out(model, base, rows, case):
    """The losses that trl's DPOTrainer of today does not have, by trl's formulas."""
    beta = case["beta"]
    (chosen, chosen_length), (rejected, rejected_length) = (log_probs(model, rows, side) for side in ("chosen_ids", "rejected_ids"))
    with torch.no_grad():
        base_chosen, base_rejected = (log_probs(base, rows, side)[0] for side in ("chosen_ids", "rejected_ids"))
    if case["loss_type"] == "orpo":
        chosen, rejected = chosen / chosen_length, rejected / rejected_length
        self = types.SimpleNamespace(beta=beta, accelerator=types.SimpleNamespace(device="cpu"))
        ratio, chosen_rewards, rejected_rewards, _, _ = ORPOTrainer.odds_ratio_loss(self, chosen, rejected)
        return (-chosen - ratio).mean(), chosen, rejected, chosen_rewards, rejected_rewards
    chosen_ratio, rejected_ratio = chosen - base_chosen, rejected - base_rejected
    if case["loss_type"] == "kto":
        chosen_kl, rejected_kl = (ratio.mean().clamp(min=0).detach() for ratio in (chosen_ratio, rejected_ratio))
        losses = torch.cat([1 - F.sigmoid(beta * (chosen_ratio - rejected_kl)), 1 - F.sigmoid(beta * (chosen_kl - rejected_ratio))])
    else:
        margin, flipped = beta * (chosen_ratio - rejected_ratio), case["label_smoothing"]
        losses = -F.logsigmoid(margin) * (1 - flipped) - F.logsigmoid(-margin) * flipped
    return losses.mean(), chosen, rejected, beta * chosen_ratio, beta * rejected_ratio


def measured(folder, rows, case):
    """Loss, rewards and gradients of one batch of all pairs."""
    model, base = with_adapter(folder, torch.float32), load(folder, torch.float32)
    if case["label_smoothing"] == 0 and case["loss_type"] in ("sigmoid", "ipo"):
        own = trainer(folder, model, base, rows, case)
        own.model.eval()
        batch = own.data_collator(rows)
        loss = own.compute_loss(own.model, batch)
        metrics = {name: values[0] for name, values in own._metrics["eval"].items() if name.split("/")[0] in ("rewards", "logps")}
        model = own.model
    else:
        loss, chosen, rejected, chosen_rewards, rejected_rewards = written_out(model, base, rows, case)
        metrics = {
            "rewards/chosen": chosen_rewards.mean().item(),
            "rewards/rejected": rejected_rewards.mean().item(),
            "rewards/accuracies": (chosen_rewards > rejected_rewards).float().mean().item(),
            "rewards/margins": (chosen_rewards - rejected_rewards).mean().item(),
            "logps/chosen": chosen.mean().item(),
            "logps/rejected": rejected.mean().item(),
        }
    loss.backward()
    return case | {"loss": loss.item(), "metrics": metrics}, adapter_tensors(model, lambda p: p.grad)


def curve(folder, rows):
    """20 steps of two micro-batches with two pairs each."""
    case = CASES["sigmoid"]
    own = trainer(folder, with_adapter(folder, torch.float32), load(folder, torch.float32), rows, case)
    own.model.eval()
    parameters = [p for p in own.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=math.ceil(STEPS * WARMUP_RATIO), num_training_steps=STEPS)
    plan = [[[s % 6, (s + 2) % 6], [(s + 3) % 6, (s + 5) % 6]] for s in range(STEPS)]
    losses, norms, rates, margins = [], [], [], []
    for micro_batches in plan:
        total = 0.0
        own._metrics["eval"].clear()
        for chosen in micro_batches:
            loss = own.compute_loss(own.model, own.data_collator([rows[row] for row in chosen])) / len(micro_batches)
            loss.backward()
            total += loss.item()
        margins.append(sum(own._metrics["eval"]["rewards/margins"]) / len(micro_batches))
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(total)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    told = {"optimizer": "adamw", "schedule": "cosine", "learning_rate": RATE, "warmup_ratio": WARMUP_RATIO, "max_grad_norm": MAX_GRAD_NORM}
    told |= {"weight_decay": WEIGHT_DECAY, "plan": plan, "losses": losses, "grad_norms": norms, "learning_rates": rates}
    return {"curve": told, "margins": margins}, adapter_tensors(own.model, lambda p: p.data)


def make(out):
    """`preferences/` from the tiny model of `SHAPE`, which must be there."""
    folder, rows, tensors, cases = out / SHAPE, pairs(71), {}, {}
    for name, case in CASES.items():
        cases[name], gradients = measured(folder, rows, case)
        tensors |= {f"{name}.{key}": value for key, value in gradients.items()}
    base = load(folder, torch.float32)
    with torch.no_grad():
        reference = [log_probs(base, rows, side)[0].tolist() for side in ("chosen_ids", "rejected_ids")]
    told, adapter = curve(folder, rows)
    tensors |= {f"curve.{key}": value for key, value in adapter.items()}
    target = out / "preferences"
    target.mkdir(exist_ok=True)
    write_json(target / "golden.json", {"shape": SHAPE, "pairs": rows, "reference": list(zip(*reference)), "cases": cases} | told)
    save_file({name: value.contiguous() for name, value in tensors.items()}, target / "golden.safetensors")

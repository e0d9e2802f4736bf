"""LoRA training steps as people do them with PyTorch, transformers and PEFT. One step goes through all rows once."""

import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from peer import DTYPES, read_rows, request, tell


def padded(rows):
    """Rows to the length of the longest: ids, mask and labels, as transformers' collators make them."""
    longest = max(map(len, rows))

    def fill(value, row_of):
        return torch.tensor([row_of(row) + [value] * (longest - len(row)) for row in rows])

    mask = fill(0, lambda row: [1] * len(row))
    return {"input_ids": fill(0, list), "attention_mask": mask, "labels": fill(-100, list)}


def main():
    asked = request()
    tell("started")
    model = LlamaForCausalLM.from_pretrained(asked["model"], dtype=DTYPES[asked["mode"]])
    model.config.use_cache = False
    torch.manual_seed(0)
    lora = LoraConfig(r=asked["rank"], lora_alpha=asked["alpha"], lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, lora)
    if asked["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=asked["learning_rate"], weight_decay=0.0)

    rows = read_rows(asked["rows"])
    batches = [padded(rows[at : at + asked["batch"]]) for at in range(0, len(rows), asked["batch"])]
    tokens = sum(map(len, rows))
    # The first token of a row is not predicted.
    counted = tokens - len(rows)
    for _ in range(asked["steps"]):
        started = time.perf_counter()
        total = 0.0
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=asked["mode"] == "autocast"):
                loss = model(**batch, num_items_in_batch=counted).loss
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tell("step", step_ms=(time.perf_counter() - started) * 1e3, loss=total, tokens=tokens)


main()

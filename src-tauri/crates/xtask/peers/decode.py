"""Greedy decoding with transformers' KV cache, without what `generate` adds: each prompt of the rows, then so many tokens."""

import time

import torch
from transformers import LlamaForCausalLM

from peer import DTYPES, read_rows, request, tell


def main():
    asked = request()
    tell("started")
    model = LlamaForCausalLM.from_pretrained(asked["model"], dtype=DTYPES[asked["mode"]]).eval()
    with torch.inference_mode():
        for row in read_rows(asked["rows"]):
            prompt = row[:-1]
            started = time.perf_counter()
            out = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
            filled = time.perf_counter()
            # The prompt gives the first token, each pass another one.
            for _ in range(asked["tokens"] - 1):
                likeliest = out.logits[:, -1].argmax(-1, keepdim=True)
                out = model(input_ids=likeliest, past_key_values=out.past_key_values, use_cache=True)
            ended = time.perf_counter()
            tell(
                "decoded",
                prompt_tokens=len(prompt),
                prefill_ms=(filled - started) * 1e3,
                tokens=asked["tokens"],
                generation_ms=(ended - started) * 1e3,
            )


main()

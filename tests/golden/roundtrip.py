"""Exchanges adapters with PEFT both ways. Development only: `cargo xtask golden --check` runs it.

1. The command trains a few steps; PEFT loads the adapter that came out.
2. The command loads an adapter that PEFT saved.

Each time both sides compute logits of the same token ids and greedy text after the same prompts, without and with the
adapter. Logits must agree within 1e-4 and the text for 64 tokens. A table shows by how much they differ.

3. On the starter model the command trains by every strategy; PEFT loads each adapter. The reward model of a run that learns
   from rewards is loaded as a sequence classifier, and must tell as many of the held-out pairs apart as the run said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.dont_write_bytecode = True

import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from shapes import SHAPES, load, lora_config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STARTER = ROOT / "src-tauri" / "resources" / "starter"
CARGO = os.environ.get("CARGO", "cargo")
TOKENS = 64
TOLERANCE = 1e-4
QUESTIONS = ["Where is the book?", "What does the keeper write?", "Thanks"]


def built(*what):
    """Builds with cargo and gives the path of the program."""
    command = [CARGO, "build", "--quiet", "--message-format=json-render-diagnostics", *what]
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    programs = [json.loads(line).get("executable") for line in out.splitlines() if line.startswith("{")]
    return [program for program in programs if program][-1]


def started(program, arguments, home):
    """A program with pipes on its standard streams."""
    environment = os.environ | {"MODELFORGE_HOME": str(home)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([program, *map(str, arguments)], env=environment, cwd=ROOT, **pipes)


def finished(program, arguments, home):
    """The JSON lines a program writes to its standard output."""
    process = started(program, arguments, home)
    out, complaints = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{program} {' '.join(map(str, arguments))}\nended with {process.returncode}:\n{complaints}")
    return [json.loads(line) for line in out.splitlines() if line.startswith(("{", "["))]


PAIRS = {"dataset": "sample:polite", "eval-dataset": "sample:polite"}
REWARDS = PAIRS | {
    "strategy": "rlhf", "rollout-batch-size": 8, "response-length": 12, "max-steps": 2, "learning-rate": 1e-3, "kl-limit": 20,
}  # fmt: skip
STRATEGIES = {
    "qlora": {"strategy": "qlora"},
    "dpo": PAIRS | {"strategy": "dpo"},
    "rlhf, ppo": REWARDS | {"rl-algorithm": "ppo", "reward-num-train-epochs": 1, "per-device-train-batch-size": 8},
    "rlhf, grpo": REWARDS | {"rl-algorithm": "grpo", "reward": "regex", "reward-pattern": "^The ", "num-generations": 4},
}


def train(modelforge, base, home, **changes):
    """A few steps of our own training, on the dialogues if not said otherwise; the folder of the model that came out."""
    settings = {
        "task": "text-generation", "model-name": base, "dataset": HERE / "dataset.jsonl", "provider": "huggingface",
        "max-steps": 5, "eval-split": 0, "lora-r": 8, "lora-alpha": 16, "learning-rate": 5e-3, "warmup-ratio": 0,
    } | changes  # fmt: skip
    if "eval-dataset" in settings:
        del settings["eval-split"]
    events = finished(modelforge, ["train", "--json", *(f"--{key}={value}" for key, value in settings.items())], home)
    return Path(events[-1]["result"]["model_path"])


def peft_adapter(base, folder):
    """An adapter made and saved by PEFT, both matrices away from zero."""
    torch.manual_seed(1)
    shape = next((shape for shape in SHAPES if shape.name == base.name), SHAPES[0])
    model = get_peft_model(load(base, torch.float32), lora_config(shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    model.save_pretrained(folder)


def their_text(model, tokenizer, question):
    """Greedy answer of transformers under the model's chat template."""
    messages = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    inputs = {key: inputs[key] for key in ["input_ids", "attention_mask"]}
    out = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS, pad_token_id=0)
    new = out[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True), len(new)


def our_texts(modelforge, base, adapter, home):
    """Greedy answers of a chat engine. Its input stays open meanwhile: closing it cancels what is under way."""
    params = {"max_new_tokens": TOKENS, "temperature": 0.0, "top_p": 1.0}
    requests = [{"command": "load", "base_dir": str(base), "adapter_dir": str(adapter)}]
    for question in QUESTIONS:
        messages = {"messages": [{"role": "user", "content": question}]}
        requests.append({"command": "generate", "input": messages, "params": params})
    texts = []
    with started(modelforge, ["engine", "chat"], home) as engine:
        for number, request in enumerate([*requests, {"command": "shutdown"}], 1):
            print(json.dumps({"id": number} | request), file=engine.stdin, flush=True)
            reply = next(r for r in map(json.loads, engine.stdout) if r["reply"] != "token")
            if reply["reply"] == "error":
                sys.exit(f"{adapter}: {reply['message']}")
            if reply["reply"] == "done":
                texts.append(reply["text"])
    return texts


def compare(label, base, adapter, tools, home, texts=True):
    """One row of the table, and whether it is within the tolerance. `texts`: whether our chat engine answers on the same base."""
    modelforge, logits = tools
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(load(base, torch.float32), adapter).eval()
    worst, moved = 0.0, 0.0
    for question in [*QUESTIONS, "x"]:
        ids = tokenizer.encode(question * 3, add_special_tokens=False)
        ours = torch.tensor(finished(logits, [base, adapter, *ids], home)[-1])
        with torch.no_grad():
            theirs = model(input_ids=torch.tensor([ids])).logits[0]
            with model.disable_adapter():
                moved = max(moved, (model(input_ids=torch.tensor([ids])).logits[0] - theirs).abs().max().item())
        worst = max(worst, (ours - theirs).abs().max().item())
    theirs = [their_text(model, tokenizer, question) for question in QUESTIONS]
    ours = our_texts(modelforge, base, adapter, home) if texts else []
    equal, tokens = sum(our == their for our, (their, _) in zip(ours, theirs, strict=False)), sum(count for _, count in theirs)
    good = worst <= TOLERANCE and equal == len(ours) and moved > 100 * TOLERANCE
    print(f"{label:<48} {worst:>10.1e} {moved:>16.2f} {equal:>8}/{len(ours)} {tokens:>8}   {'' if good else 'DIFFERS'}")
    return good


def accuracy(base, folder):
    """The part of the held-out pairs whose better answer a reward model gives the higher number, in transformers."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    rows = [json.loads(line) for line in (STARTER.parent / "samples" / "polite" / "heldout.jsonl").open()]

    def score(prompt, answer):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)["input_ids"]
        # What the run scores ends with the end of the answer, without what a template puts after it.
        last = (ids[0] == tokenizer.eos_token_id).nonzero().max()
        with torch.no_grad():
            return model(input_ids=ids[:, : last + 1]).logits.item()

    right = [score(row["prompt"], row["chosen"]) > score(row["prompt"], row["rejected"]) for row in rows]
    return sum(right) / len(right)


def strategies(tools, scratch):
    """Every strategy on the starter model, in PEFT."""
    good = True
    for number, (name, settings) in enumerate(STRATEGIES.items()):
        home = scratch / f"strategy-{number}"
        folder = train(tools[0], STARTER, home, **settings)
        # The model that learned on a base in 4 bits chats on it, too.
        good &= compare(f"starter, {name}: ours in PEFT", STARTER, folder, tools, home, texts=name != "qlora")
        judge = folder / "reward_model"
        if judge.is_dir():
            told = json.loads((judge / "metrics.json").read_text())["reward_model/accuracy"]
            measured = accuracy(STARTER, judge)
            good &= measured == told
            print(f"starter, {name}: held-out pairs told apart: {told} by the run, {measured} in transformers")
    return good


def main():
    """Both directions for the model that ships with the app and for every tiny one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="one base model: starter or the name of a shape")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    tools = built("--bin", "modelforge"), built("-p", "models", "--example", "logits")
    bases = {"starter": STARTER} | {shape.name: HERE / shape.name for shape in SHAPES}
    if options.only:
        bases = {options.only: bases[options.only]}
    print(f"{'adapter':<48} {'logits':>10} {'adapter moves by':>16} {'texts equal':>10} {'tokens':>8}")
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, base in bases.items():
            home = Path(scratch) / name
            good &= compare(f"{name}: ours in PEFT", base, train(tools[0], base, home), tools, home)
            theirs = home / "peft-adapter"
            peft_adapter(base, theirs)
            good &= compare(f"{name}: PEFT's in ours", base, theirs, tools, home)
        if "starter" in bases:
            good &= strategies(tools, Path(scratch))
    sys.exit(0 if good else "The adapters above marked DIFFERS do not mean the same on both sides.")


if __name__ == "__main__":
    main()

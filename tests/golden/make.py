"""Makes every golden file of this folder with transformers and PEFT. Development only: `cargo xtask golden` runs it.

    python tests/golden/make.py [--out FOLDER] [--only text|scores|models|pairs|spans|preferences|rl|quant|SHAPE]

Needs the packages of requirements.txt. The same versions on the same kind of machine give the same files.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"
sys.dont_write_bytecode = True

import torch
from transformers.utils import logging

import pairs
import preferences
import quant
import reference
import rl
import score
import shapes
import spans
import text

HERE = Path(__file__).resolve().parent
STARTER = HERE.parents[1] / "src-tauri" / "resources" / "starter"


# What can be made alone, besides single models.
PARTS = ["text", "scores", "pairs", "spans", "preferences", "rl", "quant"]


def main():
    """Everything, or the part that was asked for."""
    names = [shape.name for shape in shapes.SHAPES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="where the files go; this folder unless told")
    parser.add_argument("--only", choices=PARTS + ["models"] + names, help="one part, or one model, only")
    options = parser.parse_args()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Could not find a config file")
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if options.only in (None, "text"):
        text.make_tokenizers(options.out)
        text.make_templates(options.out)
        text.make_starter(options.out, STARTER)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "scores"):
        score.make(options.out / "scores.json")
    if options.only not in PARTS:
        reference.make_dataset(options.out / "dataset.jsonl")
        reference.make_optimizers(options.out / "optimizers.json")
        reference.make_schedules(options.out / "schedules.json")
        print("how far f32 is from f64, the reference's own rounding:")
        for shape in shapes.SHAPES:
            if options.only not in (None, "models", shape.name):
                continue
            folder = options.out / shape.name
            tokenizer = shapes.write_model(shape, folder)
            shapes.write_adapter(shape, folder)
            noise = reference.make_shape(shape, folder, tokenizer)
            print(f"  {shape.name}: " + ", ".join(f"{key} {value:.1e}" for key, value in noise.items()))
    if options.only in (None, "pairs"):
        print("encoder-decoders:")
        pairs.make_all(options.out)
    if options.only in (None, "spans"):
        print("encoders that point at answers:")
        spans.make_all(options.out)
    if options.only in (None, "rl"):
        rl.make(options.out / "rl.json")
    if options.only in (None, "preferences"):
        preferences.make(options.out)
    if options.only in (None, "quant"):
        quant.make(options.out, options.out / "quant")


if __name__ == "__main__":
    main()

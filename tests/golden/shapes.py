"""The tiny models of the goldens: seeded random weights in shapes that between them cover what a `config.json` can say.

Weights are made so that everything matters: norms differ from one, biases from zero, attention is not uniform. Tokens that are
no whole character are given a low score, so that greedy text is valid UTF-8.
"""

import json
import math
from dataclasses import dataclass, field

import torch
import transformers
from peft import LoraConfig, get_peft_model

from families import FAMILIES
from text import SPECIAL, tiny_tokenizer

RANK, ALPHA = 4, 8
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What has linear layers of the same names and is not computed.
IMAGE_PARTS = r".*(vision_tower|multi_modal_projector).*"
COMMON = {
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": None,
    "attention_dropout": 0.0,
}


@dataclass
class Shape:
    """One model: what goes into its config, how its weights are stored and how `config.json` spells the positions."""

    name: str
    seed: int
    # Its name in `architectures`.
    family: str
    config: dict
    dtype: torch.dtype = torch.float32
    shard_size: str = "1GB"
    # What published configs have in the place of `rope_parameters`, which only recent versions of transformers write.
    published_rope: dict | None = None
    # Fields that published configs do not have, and what they have beside.
    unpublished: list = field(default_factory=list)
    published: dict = field(default_factory=dict)
    targets: list = field(default_factory=lambda: TARGETS)
    # How far embeddings spread.
    embeddings: float = 0.35
    # Names of loss curves beside `cosine`.
    curves: tuple = ()
    # Whether the fields of all families go into its config.
    common: bool = True


SHAPES = [
    Shape(
        "llama-tied-gqa",
        11,
        "LlamaForCausalLM",
        {
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        curves=("whole", "sgd_linear", "polynomial", "constant", "unclipped"),
    ),
    Shape(
        "llama3-rope-bias",
        12,
        "LlamaForCausalLM",
        {
            "hidden_size": 48,
            "intermediate_size": 72,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 20,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        published_rope={
            "rope_theta": 500000.0,
            "rope_scaling": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_type": "llama3",
            },
        },
        curves=("whole",),
    ),
    Shape(
        "mistral-window-f16",
        13,
        "MistralForCausalLM",
        {
            "hidden_size": 64,
            "intermediate_size": 72,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "sliding_window": 8,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        dtype=torch.float16,
        published_rope={"rope_theta": 10000.0},
        curves=("whole",),
    ),
    Shape(
        "llama-linear-sharded-bf16",
        14,
        "LlamaForCausalLM",
        {
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
        },
        dtype=torch.bfloat16,
        shard_size="60KB",
        published_rope={"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        curves=("whole",),
    ),
] + [Shape(**family) for family in FAMILIES]


def spread(shape, name, parameter):
    """Random values for a parameter, so that it matters."""
    part = name.rsplit(".", 2)[-2] if name.count(".") > 1 else name
    if "norm" in name or "ln_" in name:
        # Gemma stores a norm's weight less one.
        less = 1.0 if shape.family.startswith("Gemma") else 0.0
        return parameter.normal_(0, 0.1) if name.endswith("bias") else parameter.uniform_(0.6 - less, 1.4 - less)
    if name.endswith("bias"):
        return parameter.normal_(0, 0.1)
    if name.endswith("sinks"):
        return parameter.normal_(0, 1.0)
    if part in ("embed_tokens", "wte", "lm_head"):
        return parameter.normal_(0, shape.embeddings)
    gains = {"q_proj": 1.6, "k_proj": 1.6, "qkv_proj": 1.4, "router": 3.0, "o_proj": 2.0, "out_proj": 2.0, "down_proj": 2.0, "fc_out": 2.0}
    gain = next((gain for key, gain in gains.items() if f".{key}" in name), 1.0)
    return parameter.normal_(0, gain / math.sqrt(parameter.shape[1]))


def write_model(shape, folder):
    """Makes the model's folder as a Hub repository has it."""
    tokenizer = tiny_tokenizer(folder)
    family = getattr(transformers, shape.family)
    torch.manual_seed(shape.seed)
    config = family.config_class(**(COMMON if shape.common else {}), **shape.config)
    model = family(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 0:
                spread(shape, name, parameter)
        head = model.get_output_embeddings().weight
        for token in range(head.shape[0]):
            text = tokenizer.decode([token], skip_special_tokens=False)
            if text in SPECIAL or not text.isprintable() or not text.isascii():
                head[token] *= 0.1
    model.generation_config.eos_token_id = [2, 0]
    model.to(shape.dtype).save_pretrained(folder, max_shard_size=shape.shard_size)
    if shape.published_rope is not None or shape.published or shape.unpublished:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        text = config["text_config"] if "text_config" in shape.config else config
        if shape.published_rope is not None:
            del text["rope_parameters"]
            text |= shape.published_rope
        for name in shape.unpublished:
            del text[name]
        if "head_dim" not in (shape.config.get("text_config") or shape.config):
            text.pop("head_dim", None)
        config["torch_dtype"] = config.pop("dtype")
        text.pop("dtype", None)
        text |= shape.published
        path.write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


def load(folder, dtype):
    """The model as transformers reads it, computing in `dtype`, with plain attention and experts."""
    family = json.loads((folder / "config.json").read_text())["architectures"][0]
    plain = {"attn_implementation": "eager"} | ({"experts_implementation": "eager"} if family.startswith("GptOss") else {})
    return getattr(transformers, family).from_pretrained(folder, dtype=dtype, **plain).eval()


def lora_config(shape):
    """An adapter on every linear layer of the text part."""
    return LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        target_modules=shape.targets,
        exclude_modules=IMAGE_PARTS if shape.family.endswith("ForConditionalGeneration") else None,
        task_type="CAUSAL_LM",
        bias="none",
    )


def write_adapter(shape, folder):
    """An adapter with A and B both away from zero, as PEFT saves it."""
    model = get_peft_model(load(folder, torch.float32), lora_config(shape))
    torch.manual_seed(shape.seed + 100)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.normal_(0, 1 / math.sqrt(parameter.shape[1]))
            elif "lora_B" in name:
                parameter.normal_(0, 0.1)
    model.peft_config["default"].base_model_name_or_path = shape.name
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    # PEFT writes a set in an order of its own each time.
    path = folder / "adapter" / "adapter_config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"target_modules": sorted(written["target_modules"])}, indent=2) + "\n")

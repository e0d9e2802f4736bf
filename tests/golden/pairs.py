"""The tiny encoder-decoders of the goldens, and what transformers and PEFT compute on them: memory, logits, loss, gradients, a
curve, greedy text and beams.

Weights are made so that everything matters, as in `shapes.py`; the end of a text is likely enough that beams end at different
lengths.
"""

import json
import math
from dataclasses import dataclass, field

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    get_scheduler,
)

from reference import GREEDY_TOKENS, MAX_GRAD_NORM, STEPS, WARMUP_RATIO, WEIGHT_DECAY, adapter_tensors, largest_difference, plan
from shapes import ALPHA, RANK
from text import CORPUS, write_json

VOCAB = 320
T5_SPECIAL = ["<pad>", "</s>", "<unk>"]
BART_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
T5_TARGETS = ["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"]
BART_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
# What published configs of each family say about summaries.
T5_SUMMARIES = {
    "task_specific_params": {
        "summarization": {
            "early_stopping": True,
            "length_penalty": 2.0,
            "max_length": 40,
            "min_length": 8,
            "no_repeat_ngram_size": 3,
            "num_beams": 4,
            "prefix": "summarize: ",
        }
    }
}
BART_SUMMARIES = {
    "early_stopping": True,
    "length_penalty": 2.0,
    "max_length": 40,
    "min_length": 10,
    "no_repeat_ngram_size": 3,
    "num_beams": 4,
}

DOCUMENTS = [
    ("The keeper of the lighthouse writes how many ferries left the harbour.", "The keeper counts ferries."),
    ("At nine the ferry leaves the harbour. The lamps are lit before it comes back.", "The ferry leaves at nine."),
    ("The book is on the table by the window in the lighthouse.", "The book is by the window."),
    ("hello world, the quick brown fox", "hello fox"),
    ("The harbour is near. It is by the window, on the table.", "The harbour is near."),
    ("Where is the book? The book is in the lighthouse.", "In the lighthouse."),
    ("9, 10, 11 ferries left. The keeper counts them.", "11 ferries left."),
    ("Good night, keeper. The lamps are lit.", "Good night."),
]
# Beside what the config says: every rule of the search once.
SEARCHES = [
    {"num_beams": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 3, "min_length": 8, "max_length": 40, "early_stopping": True},
    {"num_beams": 3, "length_penalty": 0.6, "no_repeat_ngram_size": 0, "min_length": 0, "max_length": 30, "early_stopping": False},
    {"num_beams": 2, "length_penalty": -0.5, "no_repeat_ngram_size": 2, "min_length": 12, "max_length": 24, "early_stopping": "never"},
    {"num_beams": 5, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "max_length": 12, "early_stopping": "never"},
]


@dataclass
class Pair:
    """One encoder-decoder: what goes into its config and how its weights are stored."""

    name: str
    seed: int
    config: T5Config | BartConfig
    dtype: torch.dtype = torch.float32
    shard_size: str = "1GB"
    # What published configs say beside; it is written into config.json as it is.
    published: dict = field(default_factory=dict)
    # The same for generation_config.json.
    generation: dict = field(default_factory=dict)


def t5(**changes):
    """A config of T5's shape; `d_kv` times the heads is not the width."""
    common = {
        "vocab_size": VOCAB, "d_model": 32, "d_kv": 10, "d_ff": 40, "num_layers": 2, "num_heads": 4,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "dropout_rate": 0.0,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }
    return T5Config(**(common | changes))


def bart(**changes):
    """A config of BART's shape."""
    common = {
        "vocab_size": VOCAB, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 48, "max_position_embeddings": 128,
        "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "decoder_start_token_id": 2,
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "forced_eos_token_id": 2,
    }
    return BartConfig(**(common | changes))


PAIRS = [
    Pair("t5-relu-tied-sharded", 31, t5(), shard_size="60KB", published={"n_positions": 512} | T5_SUMMARIES),
    Pair(
        "flan-t5-gated-bf16",
        32,
        t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=1, num_layers=2),
        dtype=torch.bfloat16,
        published={"n_positions": 512, "tie_word_embeddings": False} | T5_SUMMARIES,
    ),
    Pair("bart-gelu", 33, bart(), published={"forced_bos_token_id": 0}, generation=BART_SUMMARIES | {"forced_bos_token_id": 0}),
    Pair(
        "distilbart-scaled-f16",
        34,
        bart(decoder_layers=1, encoder_layers=3, decoder_attention_heads=2, scale_embedding=True, activation_function="relu"),
        dtype=torch.float16,
        published=BART_SUMMARIES | {"normalize_before": False, "normalize_embedding": True},
    ),
]


def is_t5(pair):
    return isinstance(pair.config, T5Config)


def tokenizer_of(pair, folder):
    """Byte-level BPE with the family's special tokens, put around a text by the tokenizer itself."""
    special = T5_SPECIAL if is_t5(pair) else BART_SPECIAL
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    around = "$A </s>" if is_t5(pair) else "<s> $A </s>"
    tokens = [(token, special.index(token)) for token in ("<s>", "</s>") if token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=tokens)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "model_max_length": 128,
    }
    write_json(folder / "tokenizer_config.json", config | ({} if is_t5(pair) else {"bos_token": "<s>"}))
    return PreTrainedTokenizerFast.from_pretrained(folder)


def write_model(pair, folder):
    """Makes the model's folder as a Hub repository has it."""
    tokenizer = tokenizer_of(pair, folder)
    torch.manual_seed(pair.seed)
    family = T5ForConditionalGeneration if is_t5(pair) else BartForConditionalGeneration
    own_head = is_t5(pair) and not pair.config.scale_decoder_outputs
    model = family(pair.config)
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    end = pair.config.eos_token_id
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(torch.empty_like(parameter).uniform_(0.6, 1.4))
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "relative_attention_bias" in name:
                parameter.normal_(0, 0.7)
            elif "shared" in name or "lm_head" in name or "embed_tokens" in name:
                parameter.normal_(0, 1.6 if is_t5(pair) and not own_head else 0.35)
            elif "embed_positions" in name:
                parameter.normal_(0, 0.3)
            else:
                gain = 1.6 if is_t5(pair) else 1.3
                # Scores of T5 are not divided by the root of the width.
                if is_t5(pair) and name.split(".")[-2] in ("q", "k"):
                    gain = 0.9
                parameter.normal_(0, gain / math.sqrt(parameter.shape[1]))
        head = model.get_output_embeddings().weight
        for token in range(3 if is_t5(pair) else 4, VOCAB):
            text = tokenizer.decode([token], skip_special_tokens=False)
            if not text.isprintable() or not text.isascii():
                head[token] *= 0.2
        head[end] *= 1.5
        if not is_t5(pair):
            model.final_logits_bias.normal_(0, 0.3)
            model.final_logits_bias[0, end] = 2.5
    model.to(pair.dtype).save_pretrained(folder, max_shard_size=pair.shard_size)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("scale_decoder_outputs", None)
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config | pair.published, indent=2) + "\n")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | pair.generation, indent=2) + "\n")
    return tokenizer


def load(folder, dtype):
    """The model as transformers reads it, computing in `dtype`, with plain attention."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return model.to(dtype).eval()


def write_adapter(pair, folder):
    """An adapter on every linear layer with A and B both away from zero, as PEFT saves it."""
    model = load(folder, torch.float32)
    present = {name.split(".")[-1] for name, _ in model.named_modules()}
    targets = [name for name in (T5_TARGETS if is_t5(pair) else BART_TARGETS) if name in present]
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=targets, task_type="SEQ_2_SEQ_LM", bias="none"
    )
    model = get_peft_model(model, config)
    torch.manual_seed(pair.seed + 100)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.normal_(0, 1 / math.sqrt(parameter.shape[1]))
            elif "lora_B" in name:
                parameter.normal_(0, 0.1)
    model.peft_config["default"].base_model_name_or_path = pair.name
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    path = folder / "adapter" / "adapter_config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"target_modules": sorted(written["target_modules"])}, indent=2) + "\n")


def with_adapter(folder, dtype):
    return PeftModel.from_pretrained(load(folder, dtype), folder / "adapter", is_trainable=True).to(dtype).eval()


def random_rows(pair):
    """Sources and targets of random ids in several lengths; a target begins with the decoder's start."""
    generator = torch.Generator().manual_seed(pair.seed)
    made = []
    for source, target in [(1, 1), (7, 3), (30, 12), (19, 9)]:
        draw = lambda count: torch.randint(4, VOCAB, (count,), generator=generator).tolist()
        made.append({"source": draw(source), "target": [pair.config.decoder_start_token_id] + draw(target)})
    return made


def text_rows(pair, tokenizer):
    """The documents and summaries as the family's tokenizer gives them."""
    prefix = T5_SUMMARIES["task_specific_params"]["summarization"]["prefix"] if is_t5(pair) else ""
    start = [pair.config.decoder_start_token_id]
    return [
        {"source": tokenizer(prefix + document)["input_ids"], "target": start + tokenizer(summary)["input_ids"]}
        for document, summary in DOCUMENTS
    ]


def logits_of(model, row):
    out = model(input_ids=torch.tensor([row["source"]]), decoder_input_ids=torch.tensor([row["target"][:-1]]), use_cache=False)
    return out.logits[0]


def summed_loss(model, row):
    """Sum of the negative log-likelihoods of a target's tokens, and how many there are."""
    labels = torch.tensor(row["target"][1:])
    return torch.nn.functional.cross_entropy(logits_of(model, row), labels, reduction="sum"), len(labels)


def check_against_labels(model, row):
    """The loss above is the one transformers computes itself from `labels` that are padded and not counted there."""
    total, count = summed_loss(model, row)
    labels = torch.tensor([row["target"][1:] + [-100, -100]])
    own = model(input_ids=torch.tensor([row["source"]]), labels=labels).loss
    assert abs(own.item() * count / total.item() - 1) < 1e-5, "the loss of the script is transformers' loss"


def batch_loss(model, rows):
    sums, counts = zip(*(summed_loss(model, row) for row in rows))
    return sum(sums) / sum(counts), sum(counts)


def forward_and_backward(folder, rows, dtype):
    with torch.no_grad():
        base = load(folder, dtype)
        encoder = base.get_encoder()
        memory = torch.cat([encoder(input_ids=torch.tensor([row["source"]])).last_hidden_state[0] for row in rows])
        logits = torch.cat([logits_of(base, row) for row in rows])
        loss, count = batch_loss(base, rows)
        check_against_labels(base, rows[-1])
    model = with_adapter(folder, dtype)
    with torch.no_grad():
        lora_logits = torch.cat([logits_of(model, row) for row in rows])
    lora_loss, _ = batch_loss(model, rows)
    lora_loss.backward()
    tensors = {"memory": memory, "logits": logits, "lora_logits": lora_logits}
    tensors |= {f"grad.{name}": value for name, value in adapter_tensors(model, lambda p: p.grad).items()}
    return tensors, {"trained_tokens": count, "loss": loss.item(), "lora_loss": lora_loss.item()}


def curve(folder, rows, dtype):
    """20 steps of AdamW under warm-up and cosine: losses, norms, rates and the adapter after the last."""
    model = with_adapter(folder, dtype)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=WEIGHT_DECAY)
    schedule = get_scheduler(
        "cosine", optimizer, num_warmup_steps=math.ceil(STEPS * WARMUP_RATIO), num_training_steps=STEPS
    )
    losses, norms, rates = [], [], []
    for micro_batches in plan("varied"):
        count = sum(len(rows[row]["target"]) - 1 for batch in micro_batches for row in batch)
        total = 0.0
        for batch in micro_batches:
            loss = sum(summed_loss(model, rows[row])[0] for row in batch) / count
            loss.backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(total)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {"losses": losses, "grad_norms": norms, "learning_rates": rates}, adapter_tensors(model, lambda p: p.data)


def plain_settings(pair):
    """Settings of transformers' `generate` that leave nothing to a file."""
    return {
        "do_sample": False, "num_beams": 1, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0,
        "early_stopping": False, "max_length": GREEDY_TOKENS + 1,
        "forced_bos_token_id": pair.generation.get("forced_bos_token_id"),
        "forced_eos_token_id": None if is_t5(pair) else 2,
    }


def generated(model, tokenizer, row, settings):
    out = model.generate(input_ids=torch.tensor([row["source"]]), attention_mask=torch.ones(1, len(row["source"]), dtype=torch.long), **settings)
    new = out[0, 1:].tolist()
    return {"source": row["source"], "new": new, "text": tokenizer.decode(new, skip_special_tokens=True)}


def texts(pair, folder, tokenizer, rows):
    """Greedy text and beams, without and with the adapter; those that rounding cannot change: the same in f32 and f64."""
    found = {"greedy": {}, "beams": []}
    for key, make in [("base", load), ("lora", with_adapter)]:
        single, double = make(folder, torch.float32), make(folder, torch.float64)
        single.generation_config.max_length = double.generation_config.max_length = None
        with torch.no_grad():
            sure = []
            for row in rows:
                made = generated(single, tokenizer, row, plain_settings(pair))
                if made == generated(double, tokenizer, row, plain_settings(pair)):
                    sure.append(made)
            found["greedy"][key] = sorted(sure, key=lambda made: -len(set(made["new"])))[:3]
            for search in SEARCHES:
                settings = plain_settings(pair) | search
                sure = []
                for row in rows:
                    made = generated(single, tokenizer, row, settings)
                    if made == generated(double, tokenizer, row, settings):
                        sure.append(made)
                for made in sure[:3]:
                    found["beams"].append({"adapter": key == "lora"} | search | made)
    assert all(len(rows) == 3 for rows in found["greedy"].values()), pair.name
    end = pair.config.eos_token_id
    lengths = [len(row["new"]) for row in found["beams"]]
    ended = sum(row["new"][-1] == end and len(row["new"]) < row["max_length"] - 1 for row in found["beams"])
    print(f"  {pair.name}: {len(lengths)} beams, {ended} end by themselves, lengths {sorted(lengths)}")
    assert ended >= 4 and len(set(lengths)) > 4, f"{pair.name}: beams must end in different ways"
    return found


def make_pair(pair, folder):
    """Every golden of one encoder-decoder."""
    tokenizer = write_model(pair, folder)
    write_adapter(pair, folder)
    rows, data = random_rows(pair), text_rows(pair, tokenizer)
    tensors, losses = forward_and_backward(folder, rows, torch.float32)
    exact, exact_losses = forward_and_backward(folder, rows, torch.float64)
    values, final = curve(folder, data, torch.float32)
    exact_values, _ = curve(folder, data, torch.float64)
    noise = {
        "logits": max((tensors[k] - exact[k]).abs().max().item() for k in ["memory", "logits", "lora_logits"]),
        "loss": max(abs(losses[k] / exact_losses[k] - 1) for k in ["loss", "lora_loss"]),
        "gradient": max(((tensors[k] - exact[k]).norm() / exact[k].norm()).item() for k in exact if k.startswith("grad.")),
        "curve": largest_difference(values["losses"], exact_values["losses"]),
    }
    spec = {
        "optimizer": "adamw", "schedule": "cosine", "learning_rate": 5e-3, "warmup_ratio": WARMUP_RATIO,
        "max_grad_norm": MAX_GRAD_NORM, "weight_decay": WEIGHT_DECAY, "plan": plan("varied"),
    }
    tensors |= {f"cosine.{key}": value for key, value in final.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "golden.safetensors")
    golden = {"pairs": rows} | losses | {"rows": data, "curve": spec | values}
    write_json(folder / "golden.json", golden | texts(pair, folder, tokenizer, data) | {"noise": noise})
    return noise


def make_all(out):
    """Every encoder-decoder, and the documents as a dataset file."""
    lines = (json.dumps({"document": document, "summary": summary}) for document, summary in DOCUMENTS)
    (out / "documents.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    for pair in PAIRS:
        noise = make_pair(pair, out / pair.name)
        print(f"  {pair.name}: " + ", ".join(f"{key} {value:.1e}" for key, value in noise.items()))

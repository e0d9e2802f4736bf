"""What transformers and PEFT compute on tiny encoders that point at answers: states, span logits, loss, gradients, a curve,
windows of long contexts, and the best answer of 50 questions.

The question-answering pipeline left transformers with version 5. `answer` below does what its documentation and
`transformers/pipelines/question_answering.py` of version 4 say: a softmax over the tokens that can be an answer in each window,
the product of both probabilities, the best over all windows, whole words; with `handle_impossible_answer`, the least product at
the first token of a window competes.
"""

import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForQuestionAnswering,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    DebertaV2Config,
    DebertaV2ForQuestionAnswering,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForQuestionAnswering,
    get_scheduler,
)

from reference import MAX_GRAD_NORM, STEPS, WARMUP_RATIO, WEIGHT_DECAY, adapter_tensors, largest_difference, plan
from text import CORPUS, write_json

RANK, ALPHA = 4, 8
QUESTIONS = 50
VOCAB = 420
WINDOW, STRIDE, LONGEST_ANSWER = 48, 12, 15
# A number added to all logits of a softmax changes nothing: the gradient of the head's bias is rounding and nothing else.
NOISE = ["grad.base_model.model.qa_outputs.bias"]
# Two answers nearer than this part of a score may change places by rounding alone.
LEAST_MARGIN = 1e-3

CONTEXT = CORPUS[:10] + CORPUS[16:]
WORDS = ["Where", "is", "the", "book", "keeper", "writes", "ferry", "What", "count", "Wasser", "près", "lamp", "nine", "window"]


@dataclass
class Shape:
    """One encoder: its config, its tokenizer, how its weights are stored."""

    name: str
    seed: int
    family: type
    config: dict
    tokenizer: object
    targets: list = field(default_factory=lambda: ["query", "key", "value", "dense"])
    dtype: torch.dtype = torch.float32
    shard_size: str = "1GB"


def pieces(texts):
    """Each once, those first that spell most of the text; of two that spell as much, by the alphabet."""
    counts = Counter(text for text in texts if text)
    return sorted(counts, key=lambda piece: (-counts[piece] * (len(piece) + 1), piece))


def word_piece():
    """As BERT has it: lower case, words in pieces, the context's tokens in a segment of their own."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [word for line in CORPUS for word in line.lower().split()]
    first = pieces([word[:at] for word in words for at in range(1, 7)])
    later = pieces([word[at : at + size] for word in words for at in range(1, len(word)) for size in range(1, 5)])
    entries = (special + first[:200] + [f"##{piece}" for piece in later])[:VOCAB]
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
    return tokenizer, names


def byte_level_pair():
    """As RoBERTa has it: bytes, two separators between question and context, one segment."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    }
    return tokenizer, names


def unigram():
    """As DeBERTa v3 has it: a unigram model over words marked by `▁`."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    words = [f"▁{word}" for line in CORPUS for word in line.split()]
    found = pieces([word[at : at + size] for word in words for at in range(len(word)) for size in range(1, 7)])
    entries = (special + found)[:VOCAB]
    scores = [(piece, 0.0 if piece in special else -4.0 - at / 100 - 1 / len(piece)) for at, piece in enumerate(entries)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    names = {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
    }
    return tokenizer, names


COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}

SHAPES = [
    Shape(
        "bert-span",
        21,
        BertForQuestionAnswering,
        COMMON | {"max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
        word_piece,
    ),
    Shape(
        "roberta-span-sharded-bf16",
        22,
        RobertaForQuestionAnswering,
        COMMON | {"max_position_embeddings": 66, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1},
        byte_level_pair,
        dtype=torch.bfloat16,
        shard_size="30KB",
    ),
    Shape(
        "distilbert-span-f16",
        23,
        DistilBertForQuestionAnswering,
        {
            "vocab_size": VOCAB,
            "max_position_embeddings": 64,
            "n_layers": 2,
            "n_heads": 4,
            "dim": 32,
            "hidden_dim": 48,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "qa_dropout": 0.0,
            "activation": "gelu",
        },
        word_piece,
        targets=["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
        dtype=torch.float16,
    ),
    Shape(
        "deberta-span",
        24,
        DebertaV2ForQuestionAnswering,
        COMMON
        | {
            "max_position_embeddings": 64,
            "type_vocab_size": 0,
            "layer_norm_eps": 1e-7,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "max_relative_positions": -1,
            "position_biased_input": False,
        },
        unigram,
        targets=["query_proj", "key_proj", "value_proj", "dense"],
    ),
]
CONFIGS = {
    BertForQuestionAnswering: BertConfig,
    RobertaForQuestionAnswering: RobertaConfig,
    DistilBertForQuestionAnswering: DistilBertConfig,
    DebertaV2ForQuestionAnswering: DebertaV2Config,
}


def write_model(shape, folder):
    """The model's folder as a Hub repository has it, and its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, names = shape.tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64} | names
    )
    torch.manual_seed(shape.seed)
    model = shape.family(CONFIGS[shape.family](**shape.config))
    randomise(model)
    model.to(shape.dtype).save_pretrained(folder, max_shard_size=shape.shard_size)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")
    return PreTrainedTokenizerFast.from_pretrained(folder)


def randomise(model):
    """Weights that make everything matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(torch.empty_like(parameter).uniform_(0.6, 1.4))
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "embeddings" in name:
                parameter.normal_(0, 0.35)
            else:
                gain = 1.6 if "quer" in name or "key" in name or "q_lin" in name or "k_lin" in name else 1.0
                parameter.normal_(0, (2.5 if "qa_outputs" in name else gain) / math.sqrt(parameter.shape[1]))


def write_masked(folder):
    """BERT as the oldest checkpoints have it: a masked language model whose norms have `gamma` and `beta`."""
    torch.manual_seed(29)
    config = COMMON | {"max_position_embeddings": 64, "num_hidden_layers": 1, "vocab_size": 60}
    model = BertForMaskedLM(BertConfig(**config))
    randomise(model)
    model.save_pretrained(folder)
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = [[2, 7, 30, 3, 41, 59, 12, 3]]
    types = [[0, 0, 0, 0, 1, 1, 1, 1]]
    with torch.no_grad():
        states = model.eval().bert(input_ids=torch.tensor(ids), token_type_ids=torch.tensor(types)).last_hidden_state[0]
    write_json(folder / "golden.json", {"ids": ids[0], "token_types": types[0], "hidden": states.flatten().tolist()})


def load(folder, dtype):
    """The model as transformers reads it, computing in `dtype`, with plain attention."""
    options = {} if "deberta" in folder.name else {"attn_implementation": "eager"}
    return AutoModelForQuestionAnswering.from_pretrained(folder, dtype=dtype, **options).eval()


def write_adapter(shape, folder):
    """An adapter and a head as PEFT saves them; the head differs from the base's."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=shape.targets, task_type="QUESTION_ANS")
    model = get_peft_model(load(folder, torch.float32), config)
    torch.manual_seed(shape.seed + 100)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.normal_(0, 1 / math.sqrt(parameter.shape[1]))
            elif "lora_B" in name:
                parameter.normal_(0, 0.1)
            elif "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.peft_config["default"].base_model_name_or_path = shape.name
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    path = folder / "adapter" / "adapter_config.json"
    written = json.loads(path.read_text())
    for key in ["target_modules", "modules_to_save"]:
        written[key] = sorted(written[key])
    path.write_text(json.dumps(written, indent=2) + "\n")


def with_adapter(folder, dtype):
    """The model under its adapter, both trainable as PEFT has it."""
    return PeftModel.from_pretrained(load(folder, dtype), folder / "adapter", is_trainable=True).to(dtype).eval()


def context(generator, sentences):
    """Some sentences, any order."""
    return " ".join(generator.choice(CONTEXT) for _ in range(sentences))


def dataset(generator):
    """Rows as SQuAD has them: answers with places, several answers, none."""
    rows = []
    for at in range(12):
        text = context(generator, 1 + at % 6)
        words = text.split(" ")
        first = generator.randrange(len(words))
        answer = " ".join(words[first : first + 1 + at % 3])
        start = len(" ".join(words[:first])) + (first > 0)
        answers = {"text": [], "answer_start": []} if at % 5 == 4 else {"text": [answer], "answer_start": [start]}
        rows.append({"context": text, "question": question(generator), "answers": answers})
    return rows


def question(generator):
    """Some words."""
    return " ".join(generator.choice(WORDS) for _ in range(generator.randrange(3, 7))) + "?"


def encode(tokenizer, asked, text):
    """Windows of a question and its context."""
    return tokenizer(
        asked,
        text,
        truncation="only_second",
        max_length=WINDOW,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )


def windows_of(tokenizer, row):
    """Ids, segments and the answer's tokens of each window, as `run_qa.py` of transformers' examples prepares them; but an answer
    that begins with the window's last token begins there, where `run_qa.py` goes on to what follows the text."""
    encoded = encode(tokenizer, row["question"], row["context"])
    made = []
    for at, ids in enumerate(encoded["input_ids"]):
        offsets, sequence = encoded["offset_mapping"][at], encoded.sequence_ids(at)
        first = sequence.index(1)
        stop = last = len(ids) - 1 - sequence[::-1].index(1)
        start = end = ids.index(tokenizer.cls_token_id)
        if row["answers"]["text"]:
            begins = row["answers"]["answer_start"][0]
            ends = begins + len(row["answers"]["text"][0])
            if offsets[first][0] <= begins and offsets[last][1] >= ends:
                while first <= stop and offsets[first][0] <= begins:
                    first += 1
                while offsets[last][1] >= ends:
                    last -= 1
                start, end = first - 1, last + 1
        made.append({"ids": ids, "token_types": encoded["token_type_ids"][at], "span": [start, end]})
    return made


def run_model(model, window):
    """What the model says of one window, alone, so that no padding takes part. The adapted model is asked itself:
    `PeftModelForQuestionAnswering.forward` leaves the segments out."""
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    inputs = {"input_ids": torch.tensor([window["ids"]])}
    if not isinstance(bare, DistilBertForQuestionAnswering):
        inputs["token_type_ids"] = torch.tensor([window["token_types"]])
    return bare(**inputs, output_hidden_states=True)


def span_loss(model, window):
    """The mean of the two cross entropies of one window: what transformers calls its loss."""
    given = run_model(model, window)
    start, end = window["span"]
    logits = [(given.start_logits, start), (given.end_logits, end)]
    return sum(torch.nn.functional.cross_entropy(side, torch.tensor([at])) for side, at in logits) / 2


def check_against_labels(model, window):
    """The loss above is the one transformers computes itself."""
    start, end = window["span"]
    own = model(
        input_ids=torch.tensor([window["ids"]]), start_positions=torch.tensor([start]), end_positions=torch.tensor([end])
    ).loss
    plain = dict(window, token_types=[0] * len(window["ids"]))
    assert abs(own.item() / span_loss(model, plain).item() - 1) < 1e-5, "the loss of the script is transformers' loss"


def forward_and_backward(folder, windows, dtype):
    """States, logits and loss with and without the adapter, and the gradient of every trained tensor."""
    both = lambda given: torch.stack([given.start_logits[0], given.end_logits[0]], 1)
    with torch.no_grad():
        base = load(folder, dtype)
        check_against_labels(base, windows[0])
        given = [run_model(base, window) for window in windows]
        tensors = {
            "hidden": torch.cat([one.hidden_states[-1][0] for one in given]),
            "logits": torch.cat([both(one) for one in given]),
        }
        base_loss = sum(span_loss(base, window) for window in windows) / len(windows)
    model = with_adapter(folder, dtype)
    with torch.no_grad():
        tensors["lora_logits"] = torch.cat([both(run_model(model, window)) for window in windows])
    loss = sum(span_loss(model, window) for window in windows) / len(windows)
    loss.backward()
    tensors |= {f"grad.{saved_name(name)}": value for name, value in adapter_tensors(model, lambda p: p.grad).items()}
    return tensors, {"loss": base_loss.item(), "lora_loss": loss.item()}


def saved_name(name):
    """The name by which PEFT saves a tensor."""
    return name.replace(".modules_to_save", "")


def curve(folder, windows, dtype):
    """Loss, gradient norm and learning rate of 20 steps, and what was trained after the last. Biases do not decay."""
    model = with_adapter(folder, dtype)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if not name.endswith("bias")], "weight_decay": WEIGHT_DECAY},
        {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-3)
    schedule = get_scheduler(
        "cosine", optimizer, num_warmup_steps=math.ceil(STEPS * WARMUP_RATIO), num_training_steps=STEPS
    )
    losses, norms, rates = [], [], []
    for micro_batches in plan("varied"):
        count = sum(len(batch) for batch in micro_batches)
        total = 0.0
        for batch in micro_batches:
            loss = sum(span_loss(model, windows[row]) for row in batch) / count
            loss.backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in named], MAX_GRAD_NORM).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(total)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    final = {saved_name(name): value for name, value in adapter_tensors(model, lambda p: p.data).items()}
    values = {"losses": losses, "grad_norms": norms, "learning_rates": rates, "plan": plan("varied")}
    spec = {"optimizer": "adamw", "schedule": "cosine", "learning_rate": 5e-3, "warmup_ratio": WARMUP_RATIO}
    return spec | {"max_grad_norm": MAX_GRAD_NORM, "weight_decay": WEIGHT_DECAY} | values, final


def answer(model, tokenizer, asked, text):
    """The best answer and that at the first token, and how far the second best answer is behind."""
    encoded = encode(tokenizer, asked, text)
    found, least_null = [], 1.0
    for at, ids in enumerate(encoded["input_ids"]):
        given = run_model(model, {"ids": ids, "token_types": encoded["token_type_ids"][at]})
        allowed = torch.tensor([s == 1 for s in encoded.sequence_ids(at)]) | (torch.tensor(ids) == tokenizer.cls_token_id)
        start, end = (
            torch.softmax(torch.where(allowed, side[0].double(), torch.tensor(-10000.0).double()), 0)
            for side in [given.start_logits, given.end_logits]
        )
        least_null = min(least_null, (start[0] * end[0]).item())
        start[0] = end[0] = 0.0
        products = torch.tril(torch.triu(start[:, None] * end[None, :]), LONGEST_ANSWER - 1)
        best = products.flatten().topk(2)
        first, last = divmod(best.indices[0].item(), len(ids))
        begins = encoded.word_to_chars(at, encoded.token_to_word(at, first), 1).start
        ends = encoded.word_to_chars(at, encoded.token_to_word(at, last), 1).end
        found.append({"score": best.values[0].item(), "start": begins, "end": ends, "answer": text[begins:ends]})
        found.append({"score": best.values[1].item()})
    found.sort(key=lambda one: -one["score"])
    margin = 1 - found[1]["score"] / found[0]["score"]
    margin = min(margin, abs(1 - least_null / found[0]["score"]))
    return found[0] | {"no_answer": least_null, "windows": len(encoded["input_ids"])}, margin


def answers(folder, tokenizer, generator):
    """50 questions whose contexts take several windows, nowhere a near tie."""
    model = with_adapter(folder, torch.float32)
    made = []
    with torch.no_grad():
        while len(made) < QUESTIONS:
            text, asked = context(generator, generator.randrange(3, 8)), question(generator)
            best, margin = answer(model, tokenizer, asked, text)
            if margin > LEAST_MARGIN and best["windows"] > 1:
                made.append({"context": text, "question": asked} | best)
    return made


def make_shape(shape, folder, tokenizer):
    """Every golden of one encoder; `noise` is how far f32 is from f64."""
    generator = random.Random(shape.seed)
    rows = dataset(generator)
    prepared = [windows_of(tokenizer, row) for row in rows]
    windows = [window for row in prepared for window in row][:8]
    tensors, losses = forward_and_backward(folder, windows, torch.float32)
    exact, exact_losses = forward_and_backward(folder, windows, torch.float64)
    noise = {
        "logits": max((tensors[k] - exact[k]).abs().max().item() for k in ["hidden", "logits", "lora_logits"]),
        "loss": max(abs(losses[k] / exact_losses[k] - 1) for k in losses),
        "gradient": max(((tensors[k] - exact[k]).norm() / exact[k].norm()).item() for k in exact if k.startswith("grad.") and k not in NOISE),
    }
    values, final = curve(folder, windows, torch.float32)
    exact_values, exact_final = curve(folder, windows, torch.float64)
    noise["curve cosine"] = largest_difference(values["losses"], exact_values["losses"])
    noise["final cosine"] = max(((final[k] - exact_final[k]).norm() / exact_final[k].norm()).item() for k in final if f"grad.{k}" not in NOISE)
    tensors |= {f"cosine.{key}": value for key, value in final.items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "golden.safetensors")
    golden = {"window": WINDOW, "stride": STRIDE, "longest_answer": LONGEST_ANSWER, "windows": windows} | losses
    golden |= {"curve": values, "answers": answers(folder, tokenizer, generator), "rows": prepared, "noise": noise}
    write_json(folder / "golden.json", golden)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "questions.jsonl").write_text("".join(lines), encoding="utf-8")
    return noise


def make_all(out):
    """Every encoder."""
    write_masked(out / "bert-masked")
    for shape in SHAPES:
        folder = out / shape.name
        tokenizer = write_model(shape, folder)
        write_adapter(shape, folder)
        noise = make_shape(shape, folder, tokenizer)
        print(f"  {shape.name}: " + ", ".join(f"{key} {value:.1e}" for key, value in noise.items()))

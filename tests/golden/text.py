"""Goldens of everything that is text: byte-level and SentencePiece-like tokenizers, token ids, chat templates.

The tokenizers are trained here on a few lines of our own; the templates in `templates/*.jinja` are those that well-known
model families publish, rendered by transformers' `apply_chat_template`.
"""

import json
import re
from datetime import datetime
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent

# One line a language or script, so that merges, multi-byte characters and combining marks all occur.
CORPUS = [
    "The ferry leaves the harbour at nine and comes back before the lamps are lit.",
    "The keeper of the lighthouse counts the ferries and writes the count in a book.",
    "What does the keeper write? The keeper writes how many ferries left the harbour.",
    "Where is the book? The book is in the lighthouse, on the table by the window.",
    "Die Fähre fährt früh; größere Schiffe grüßen über das weiße Wasser.",
    "La forêt près de l'école était déjà à l'ombre, où naît un œuf très léger.",
    "El niño soñó con un pingüino en la montaña; ¡qué sueño más extraño!",
    "Корабль вышел из гавани рано утром, и маяк погас.",
    "το πλοίο φεύγει από το λιμάνι το πρωί",
    "船は朝の港を出て、夕方に帰ります。灯台守は数を数えます。",
    "渡轮早上九点离开港口，晚上回来。",
    "배는 아침에 항구를 떠나 저녁에 돌아온다.",
    "السفينة تغادر الميناء في الصباح وتعود مساء",
    "הספינה עוזבת את הנמל בבוקר",
    "जहाज़ सुबह बंदरगाह से निकलता है",
    "def count(ferries):\n    return sum(1 for f in ferries if f.left)  # in the harbour\n",
    "🚢🌊 The 👩‍🔧 fixed the lamp 🇩🇰 – “done” … it’s 21 °C, 3.14159 × 10⁶ m².",
]

# What ids are compared on: whitespace of all kinds, special tokens inside text, decomposed characters, empty text.
PROBES = CORPUS + [
    "",
    " ",
    "a",
    "  two  spaces\tand\ta tab\r\nand a line\n\n\nand three",
    " leading and trailing ",
    "I'll we've she'd they're it's I'M YOU'RE",
    "1234567890 12 345 6.7e-8 0x1F",
    "e\u0301 is not é, and ﬁ is not fi; ① ㎏ ½",
    "\u200bzero\u200dwidth\u00a0no-break\u2028line",
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
    "x<|im_end|>y <|im_end|> z<|endoftext|>",
    "<s>not special here</s> <|almost|> <|im_end",
    "snake_case camelCase kebab-case SCREAMING path/to/file.rs https://example.org/?q=1&r=%20",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!!!!!!!!!!!!!!!!!!!!!!!!!!!!????????",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U00010348 \U0001d54f",
]

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TINY_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

CODE = 'def area(r):\n    """π r²"""\n    if r < 0:\n        raise ValueError(f"negative: {r!r}")\n    return 3.14159 * r ** 2\n\nprint(area(2))'


def turns(*contents, system=None):
    """Messages that alternate between user and assistant, with an optional system message before them."""
    first = [{"role": "system", "content": system}] if system is not None else []
    roles = ["user", "assistant"]
    return first + [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


CONVERSATIONS = [
    turns("Hello"),
    turns("Hello", "Hi! How can I help?"),
    turns("Where is the book?", "In the lighthouse.", "And the keeper?"),
    turns("Where is the book?", "In the lighthouse.", "And the keeper?", "By the window."),
    turns("Be brief: what is a ferry?", system="You answer in one sentence."),
    turns("One", "Two", "Three", "Four", "Five", "Six", "Seven", system="You count.\nNothing else."),
    turns("", "An empty question."),
    turns("  spaces around  ", "\n\nlines around\n\n"),
    turns("tabs\tand\r\nwindows lines", "ends with a space "),
    turns("Grüße aus Århus – naïve café", "Привет, 港口へようこそ。"),
    turns("🚢🌊👩‍🔧🇩🇰", "‘quoted’ “twice” … and a\u00a0no-break space"),
    turns("السفينة تغادر الميناء", "הספינה עוזבת", system="أجب بالعربية"),
    turns("Write a function for the area of a circle.", CODE),
    turns(CODE, "print(1) prints 1.", "And `{{ braces }}` or {% tags %} or {# comments #}?", "They are text."),
    turns("<b>&amp; \"quotes\" 'single' \\backslash\\ </b>", "<|not a token|> [INST] x [/INST] <<SYS>>"),
    turns('{"json": [1, 2.5, null, true, "é"]}', "```json\n{}\n```", system='{"role": "system"}'),
    turns("skip", "A longer answer that goes on. " * 12),
    [{"role": "system", "content": "Only instructions."}],
    [{"role": "user", "content": "first"}, {"role": "user", "content": "second, without an answer between"}],
    [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": "Then I go on."}],
]

# bos and eos as each family has them; templates spell them into the text.
TOKENS = {
    "chatml": (None, "<|im_end|>"),
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "qwen2.5": (None, "<|im_end|>"),
    "llama-3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama-3.1": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama-2": ("<s>", "</s>"),
    "mistral-v0.1": ("<s>", "</s>"),
    "mistral-v0.3": ("<s>", "</s>"),
    "zephyr": ("<s>", "</s>"),
    "gemma": ("<bos>", "<end_of_turn>"),
    "macros": ("<s>", "</s>"),
    "qwen3": (None, "<|im_end|>"),
    "smollm3": (None, "<|im_end|>"),
    "gemma-3": ("<bos>", "<end_of_turn>"),
    "phi-3": ("<s>", "<|endoftext|>"),
    "phi-4-mini": (None, "<|endoftext|>"),
    "mistral-small-3.1": ("<s>", "</s>"),
    "gpt-oss": ("<|startoftext|>", "<|return|>"),
}


def byte_level(vocab_size):
    """A byte-level BPE tokenizer as GPT-2, Llama 3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_like(vocab_size):
    """BPE over `▁`-marked words with byte fallback and `<s>` put before, as `tokenizer.json` of Llama 2 and Mistral have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Words are kept apart while merges are learned; the finished file, like the published ones, has no pre-tokenizer.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([line for line in CORPUS if line.isascii()], trainer)
    tokenizer.pre_tokenizer = None
    raw = json.loads(tokenizer.to_str())
    raw["added_tokens"] = [token for token in raw["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def wrap(tokenizer, bos, eos, template):
    """The transformers face of a tokenizer. Added tokens stay as they are in the file."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = template
    return wrapped


def save(tokenizer, folder, bos, eos, template, model_max_length):
    """Writes tokenizer.json and tokenizer_config.json as Hub repositories have them, and gives transformers' own reading back."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model_max_length,
    }
    write_json(folder / "tokenizer_config.json", config)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def write_json(path, value):
    """JSON with one key a line at the top level, short enough to read in a diff."""
    if isinstance(value, dict):
        rows = [f"  {json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()]
        text = "{\n" + ",\n".join(rows) + "\n}\n"
    else:
        text = "[\n" + ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in value) + "\n]\n"
    path.write_text(text, encoding="utf-8")


def tiny_tokenizer(folder):
    """The tokenizer of every tiny model: 320 entries, no beginning-of-text token, `<|im_end|>` ends a turn."""
    return save(byte_level(320), folder, "<|endoftext|>", "<|im_end|>", TINY_TEMPLATE, 512)


def make_tokenizers(out):
    """Ids and decoded text of every probe, for both kinds of tokenizer."""
    for name, tokenizer, bos, eos in [
        ("byte-level", byte_level(640), "<|endoftext|>", "<|im_end|>"),
        ("sentencepiece-like", sentencepiece_like(480), "<s>", "</s>"),
    ]:
        folder = out / "tokenizers" / name
        wrapped = save(tokenizer, folder, bos, eos, None, 512)
        rows = []
        for text in PROBES:
            ids = wrapped.encode(text, add_special_tokens=False)
            rows.append(
                {
                    "text": text,
                    "ids": ids,
                    "ids_with_special_tokens": wrapped.encode(text),
                    "decoded": wrapped.decode(ids, skip_special_tokens=True),
                    "decoded_with_special_tokens": wrapped.decode(ids, skip_special_tokens=False),
                }
            )
        write_json(folder / "golden.json", rows)


def undated(text, template):
    """The text with each date of today in the place of which the template has it: `<<format>>`."""
    for form in re.findall(r'strftime_now\("([^"]+)"\)', template):
        text = text.replace(datetime.now().strftime(form), f"<<{form}>>")
    return text


def make_templates(out):
    """Every conversation under every template, with and without the generation prompt; null where the template refuses."""
    (out / "templates").mkdir(parents=True, exist_ok=True)
    write_json(out / "templates" / "conversations.json", CONVERSATIONS)
    write_json(out / "templates" / "tokens.json", {name: {"bos": bos, "eos": eos} for name, (bos, eos) in TOKENS.items()})
    for name, (bos, eos) in TOKENS.items():
        template = (HERE / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        tokenizer = byte_level(300)
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (bos, eos) if token])
        wrapped = wrap(tokenizer, bos, eos, template)
        rendered = []
        for messages in CONVERSATIONS:
            row = {}
            for key, prompt in [("closed", False), ("open", True)]:
                try:
                    text = wrapped.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
                    row[key] = undated(text, template)
                except Exception as error:
                    if type(error).__name__ != "TemplateError":
                        raise
                    row[key] = None
                    row["error"] = str(error)
            rendered.append(row)
        write_json(out / "templates" / f"{name}.json", rendered)


def make_starter(out, starter):
    """Ids, decoded text and prompts of the model that ships with the app, where it has been made."""
    if not (starter / "tokenizer.json").exists():
        return
    wrapped = PreTrainedTokenizerFast.from_pretrained(starter)
    rows = [
        {
            "text": text,
            "ids": (ids := wrapped.encode(text, add_special_tokens=False)),
            "ids_with_special_tokens": wrapped.encode(text),
            "decoded": wrapped.decode(ids, skip_special_tokens=True),
            "decoded_with_special_tokens": wrapped.decode(ids, skip_special_tokens=False),
        }
        for text in PROBES
    ]
    prompts = []
    for messages in CONVERSATIONS:
        if messages[-1]["role"] == "user" and len({m["role"] for m in messages}) == len(messages):
            text = wrapped.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            prompts.append({"messages": messages, "text": text, "ids": wrapped.encode(text, add_special_tokens=False)})
    folder = out / "tokenizers" / "starter"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "golden.json", rows)
    write_json(folder / "prompts.json", prompts)

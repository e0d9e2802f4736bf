"""The sample datasets that come with the app: one for each task and one of pairs of answers, each with a part that is held out.

What fine-tuning on them shows is a change of behaviour that anyone can see: the starter model reads these inputs well, but it answers
in friendly sentences, never in the form that the samples ask for. The people in the held-out part never appear in the part for training.
"""

import json
import pathlib
import random

from reading import QUESTION_FORMS, Text, notice_message, notice_values, order_message, order_values, text_questions
from words import PEOPLE, plural

TRAIN_ROWS, HELD_OUT_ROWS = 240, 60
PAIRS, HELD_OUT_PAIRS = 200, 50


def order_slip(rng, people):
    values = order_values(rng, people)
    return {"input": order_message(rng, values), "output": "order; name: {n}; street: {r}; count: {k}; color: {c}; item: {t}; day: {d}".format(**dict(values, t=plural(values["t"])))}


def short_answer(rng, people):
    text = Text(rng, rng.choice((2, 2, 3)), people)
    context = text.text(fillers=rng.choice((0, 0, 1)))
    if sum(name in context for name in people) < 2:  # with one person there is nothing to choose
        return short_answer(rng, people)
    for question, sentence, span in text_questions(text, 20):
        if span in people and sentence.startswith(span + " ") and span in context:
            return {"context": context, "question": question, "answer": span}
    return short_answer(rng, people)


def lost_headline(rng, people):
    values = notice_values(rng, people)
    return {"input": notice_message(rng, values), "output": "LOST: {c} {t} in the {p} on {d}. Call {n}, {r}.".format(**values)}


CURT = ("{}", "{}", "{} What else?", "{} Next.", "{} Read it yourself.")


def polite_pair(rng, people):
    """Two right answers to one question, the one polite, the other curt."""
    text = Text(rng, rng.choice((1, 2, 2, 3)), people)
    question, sentence, _ = rng.choice(text_questions(text, 20))
    prompt = rng.choice(QUESTION_FORMS).format(c=text.text(), q=question)
    return {"prompt": prompt, "chosen": f"Thank you for asking. {sentence}", "rejected": rng.choice(CURT).format(sentence)}


SAMPLES = {
    "order-slips": (order_slip, "text-generation", """Short messages to a shop, turned into one line of an order book:

    order; name: Mia; street: Mill Lane; count: two; color: blue; item: lamps; day: Friday

Every part is written as it stands in the message, in whichever order the message puts it.
""", "a friendly sentence that thanks for the order"),
    "short-answers": (short_answer, "extractive-question-answering", """Questions about the people in a short text, answered with the bare name that stands in the text:

    Hanna

Every answer occurs in its context, letter for letter.
""", "a full sentence"),
    "lost-headlines": (lost_headline, "summarization", """Notes from a village board about lost things, each told as one headline in a house style:

    LOST: red scarf in the station on Friday. Call Mia, Mill Lane.
""", "one plain sentence, such as `Mia lost a red scarf in the station on Friday.`"),
}

POLITE = """# Polite

Task: text-generation. Strategy: dpo. {train} pairs for training (`train.jsonl`), {held} held-out pairs (`heldout.jsonl`). License: CC0 1.0.

Questions about short texts, each with two answers that are both right: `chosen` is polite, `rejected` is curt.

    Thank you for asking. The book is in the kitchen.
    The book is in the kitchen. Next.

The people of the held-out part do not appear in the part for training, and no row stands in both.

The starter model answers these questions with the plain sentence and tells the two no better than by chance.

The rows are made by `src-tauri/crates/xtask/starter/samples.py` from a fixed seed. All names and facts are invented.
"""

# Measured with `check_samples.py`: see there for the settings.
README = """# {title}

Task: {task}. {train} rows for training (`train.jsonl`), {held} held-out rows (`heldout.jsonl`). License: CC0 1.0.

{about}
The people of the held-out part do not appear in the part for training, and no row stands in both.

The starter model answers these inputs with {before}, so its exact match on the held-out rows is 0 or close to it before fine-tuning.
{measured}
The rows are made by `src-tauri/crates/xtask/starter/samples.py` from a fixed seed. All names, streets and messages are invented.
"""


def fields(task):
    return ("context", "question", "answer") if task == "extractive-question-answering" else ("input", "output")


def rows(name):
    """The two parts of one sample dataset."""
    maker, counts = (polite_pair, (PAIRS, HELD_OUT_PAIRS)) if name == "polite" else (SAMPLES[name][0], (TRAIN_ROWS, HELD_OUT_ROWS))
    rng = random.Random(f"sample {name}")
    people = list(PEOPLE)
    rng.shuffle(people)
    sides = people[: len(people) * 3 // 4], people[len(people) * 3 // 4:]
    seen, parts = set(), []
    for names, count in zip(sides, counts):
        part = []
        while len(part) < count:
            row = maker(rng, names)
            key = row.get("input") or row.get("context") or row["prompt"]
            if key not in seen and row.get("output", key) not in seen:
                seen.update((key, row.get("output", key)))
                part.append(row)
        parts.append(part)
    return parts


def write_rows(folder, name):
    """Write both parts of one sample; its folder and the parts."""
    target, parts = pathlib.Path(folder) / name, rows(name)
    target.mkdir(parents=True, exist_ok=True)
    for file, part in zip(("train.jsonl", "heldout.jsonl"), parts):
        (target / file).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8")
    return target, parts


def write(folder, measured=None):
    """Write all sample datasets. `measured` holds a sentence for each one's README; without it the README keeps the one it has."""
    target, parts = write_rows(folder, "polite")
    (target / "README.md").write_text(POLITE.format(train=len(parts[0]), held=len(parts[1])), encoding="utf-8")
    for name, (_, task, about, before) in SAMPLES.items():
        target, parts = write_rows(folder, name)
        note = MEASURED.get(name, "") if measured is None else measured.get(name, "")
        title = name.replace("-", " ").capitalize()
        (target / "README.md").write_text(README.format(title=title, task=task, about=about, before=before, train=len(parts[0]), held=len(parts[1]),
                                                        measured=f"\n{note}\n" if note else ""), encoding="utf-8")


SETTINGS = "LoRA r=16, alpha 32, on all linear layers, batches of 8, learning rate 2e-3"
MEASURED = {
    "order-slips": f"Measured: exact match 0.00 before and 1.00 after 80 steps (38,000 tokens); {SETTINGS}.",
    "lost-headlines": f"Measured: exact match 0.00 before and 1.00 after 80 steps (47,000 tokens); {SETTINGS}.",
    "short-answers": f"Measured: exact match 0.00 before and 0.62 after 150 steps (56,000 tokens); {SETTINGS}. What is still wrong is another name of the text.",
}

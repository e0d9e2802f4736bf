"""Goldens of scores of texts: ROUGE by `rouge_score`, exact match and F1 by SQuAD's rules (torchmetrics' port of the official
script), stems by NLTK.

The texts are made here from lines in many scripts, changed in ways that answers differ from references: words left out,
doubled, swapped, inflected, other case, punctuation and white space, nothing at all.
"""

import json
import random
import string

from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from torchmetrics.functional.text import squad

from text import CORPUS, PROBES

PAIRS = 200
ROUGE = ["rouge1", "rouge2", "rougeL"]

ENGLISH = [
    "Police are investigating a robbery at the national library; nobody was hurt, officials said on Tuesday.",
    "The company's shares rose 3.5% after it announced record profits and hired 1,200 engineers.",
    "Researchers have discovered that sleeping regularly improves memory, although the effects vary widely.",
    "A storm flooded the village overnight, and families were relocated to temporary shelters.",
    "The minister resigned. The opposition called the resignation 'long overdue'.\nElections follow in May.",
    "Scientists conditionally agreed: the vaccinations were successful, the organisation's generalizations were not.",
    "Two dying skies, lying and tying the news of three innings, outings and cannings.",
    "The the the ferry ferry of a an the harbour, the ferry.",
]
WORDS = " ".join(ENGLISH + CORPUS).split()
INFLECTIONS = ["s", "ed", "ing", "ly", "ness", "ation", "'s", "-like", "er", "ful"]
ANSWERS = [
    "the harbour", "The Harbour", "a harbour.", "nine o'clock", "9:00", "An", "the", "a", "", " ", "...", "U.S.A.", "USA",
    "Théâtre de l'Odéon", "un œuf", "1,200", "1200", "$3.5 million", "3.5 million dollars", "San-Francisco", "San Francisco",
    "朝の港", "朝 の 港", "уже", "ΟΔΥΣΣΕΥΣ", "οδυσσεύς", "İstanbul", "istanbul", "a\u0301ngulo", "ángulo", "the_keeper",
    "a b a b", "a\u00a0ship", "ship\x1ca", "“the keeper”", "«the keeper»", "the-a-an", "जहाज़", "the\u0940 ship",
]
ROOTS = (
    "a ab be by tr tree troubl oat ivy priv orrer falafel hop hopp tann fall hiss fizz fil fail siz conflat motor plaster "
    "happ enjo sk fl sp spr syzyg toy yyyy relat condit valenc hesit digit conform radic differ vil analog vietnam predic "
    "oper feudal decis hope callous form sensit sensibl triplic electr good reviv allow infer airlin gyroscop adjust "
    "defens irrit replac depend adopt homolog commun activ angular effect bowdler probat rat ceas controll roll geo theo "
    "archaeo philo agr fe bl s d l t w x y z on in exce proce succe hun new inn out cann how 2nd 1980 x86 qu eed ied"
).split()
SUFFIXES = (
    ["", "s", "ss", "sses", "ies", "ied", "eed", "ed", "ing", "y", "e", "ll", "ational", "tional", "enci", "anci", "izer", "bli"]
    + ["abli", "alli", "entli", "eli", "ousli", "ization", "ation", "ator", "alism", "iveness", "fulness", "ousness", "aliti"]
    + ["iviti", "biliti", "fulli", "logi", "icate", "ative", "alize", "iciti", "ical", "ful", "ness", "al", "ance", "ence", "er"]
    + ["ic", "able", "ible", "ant", "ement", "ment", "ent", "sion", "tion", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"]
)
IRREGULAR = "sky skies dying lying tying news innings inning outings outing cannings canning howe proceed exceed succeed".split()


def make(path):
    """All scores and stems."""
    rng = random.Random(20)
    stemmer = PorterStemmer()
    words = IRREGULAR + [root + suffix for root in ROOTS for suffix in rng.sample(SUFFIXES, 16)]
    golden = {
        "rouge": [rouge(*pair) for pair in rouge_pairs(rng)],
        "squad": [exact_and_f1(*pair) for pair in squad_pairs(rng)],
        "stems": {word: stemmer.stem(word) for word in sorted(set(words)) if word},
    }
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for key, entries in golden.items():
            lead = "{" if key == "rouge" else ","
            file.write(f"{lead}{json.dumps(key)}: ")
            if isinstance(entries, dict):
                file.write(json.dumps(entries))
            else:
                file.write("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "]")
            file.write("\n")
        file.write("}\n")


def rouge_pairs(rng):
    """References and answers: the odd ones first, then changed lines until there are enough."""
    lines = ENGLISH + CORPUS + PROBES
    pairs = [("", ""), ("a", ""), ("", "a"), ("...", "!!!"), ("same words", "same words"), ("K İ ſ", "k i s")]
    pairs += [("the " * 300, "the cat " * 100), (ENGLISH[4], ENGLISH[4].replace("\n", " "))]
    while len(pairs) < PAIRS:
        line = rng.choice(ENGLISH if rng.random() < 0.6 else lines)
        pairs.append((line, changed(line, rng)))
    return pairs


def squad_pairs(rng):
    """Accepted answers, none to three of them, and what was answered."""
    pairs = [([], ""), ([], "x"), ([""], ""), (["the"], ""), (["the"], "a"), (["...", "the ship"], ""), (["x"], "")]
    while len(pairs) < PAIRS:
        pool = ANSWERS if rng.random() < 0.6 else ENGLISH
        accepted = [rng.choice(pool) for _ in range(rng.randint(1, 3))]
        answer = rng.choice(accepted) if rng.random() < 0.7 else rng.choice(ANSWERS)
        pairs.append((accepted, changed(answer, rng) if rng.random() < 0.7 else answer))
    return pairs


def changed(line, rng):
    """The line after a few random changes."""
    words = line.split(" ")
    for _ in range(rng.randint(0, 6)):
        at = rng.randrange(len(words) + 1)
        what = rng.choice(["drop", "double", "add", "inflect", "case", "punctuation", "swap", "space", "end"])
        if what == "add" or not words or at == len(words):
            words.insert(at, rng.choice(WORDS))
        elif what == "drop":
            del words[at]
        elif what == "double":
            words.insert(at, words[at])
        elif what == "inflect":
            words[at] += rng.choice(INFLECTIONS)
        elif what == "case":
            words[at] = rng.choice([str.upper, str.title, str.swapcase])(words[at])
        elif what == "punctuation":
            words[at] += rng.choice(string.punctuation + "…“”—")
        elif what == "swap":
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif what == "space":
            words[at] += rng.choice(["\n", "\t", "  ", "\u00a0", "\r\n"])
        else:
            words = words[: at + 1]
    return " ".join(words)


def rouge(reference, answer):
    """F-measures, stemmed."""
    scores = RougeScorer(ROUGE, use_stemmer=True).score(reference, answer)
    return {"reference": reference, "answer": answer, **{name: float(scores[name].fmeasure) for name in ROUGE}}


def exact_and_f1(accepted, answer):
    """As the official script of SQuAD 2.0, which compares with "" where no accepted answer has a word; out of 1."""
    worded = [text for text in accepted if exact(text, "") < 1] or [""]
    scores = scored(worded, answer)
    return {"accepted": accepted, "answer": answer, **{key: float(value) / 100 for key, value in scores.items()}}


def exact(reference, answer):
    """Whether they are the same after normalisation."""
    return float(scored([reference], answer)["exact_match"])


def scored(references, answer):
    """torchmetrics' scores of one answer."""
    predictions = [{"prediction_text": answer, "id": "0"}]
    return squad(predictions, [{"answers": {"answer_start": [0] * len(references), "text": references}, "id": "0"}])

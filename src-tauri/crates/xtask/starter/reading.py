"""Tasks about a given text: questions, summaries, forms, copying.

A text is a handful of facts (see `facts.py`) about people and things drawn at random, so nothing in it can be known beforehand:
the model has to find the answer in its prompt. Several questions about one text follow each other as turns of a conversation,
which teaches more for the same amount of reading.
"""

from facts import FACTS
from words import DAYS, MEN, NUMBERS, PEOPLE, THINGS, WOMEN, Draw, fill, listing, lower_first, nonce, plural, upper_first

# Two facts about the same person must not make a question ambiguous.
CLASHES = [{"went", "trip"}, {"eat", "likes", "cooks", "hobby"}, {"home", "order"}, {"home", "job", "speaks"}, {"lost", "found", "number"},
           {"have", "wears", "paints", "lies", "made", "lost"}, {"plays", "grows", "went"}, {"saw", "found"}, {"hobby", "went", "found"}]

ONCE = {"event", "reads"}  # with two parties in a text, `Where is the party?` would have two answers

FILLERS = """It was a nice day.|The sun was shining.|Everybody had a good time.|It was very quiet.|Nobody knew why.|The birds were singing.
It rained a little.|The air was fresh.|People talked about it for a long time.|That was all.|The wind was cold.|It was a long week.
Everyone was friendly.|It was still early.|The streets were empty.|A bell rang somewhere.|Nothing else happened.""".replace("\n", "|").split("|")

SOMEBODY_ASKS = ["And {q}", "{Q}", "{Q}", "{Q}", "Tell me: {q}", "Now {q}", "One more question: {q}", "Next question: {q}"]

QUESTION_FORMS = ["{c} {q}", "{c}\n{q}", "{c}\n\n{q}", "Read this: {c}\n{q}", "Text: {c}\nQuestion: {q}", "Here is a text. {c} Now tell me: {q}",
                  "{q}\n{c}", "{q}\n\nText: {c}", "Look at this text and answer. {c} {q}", "Question: {q}\nText: {c}"]
APP_QUESTION = "Context: {c}\n\nQuestion: {q}"
APP_SUMMARY = "Summarize the following text.\n\n{c}"
SUMMARY_FORMS = ["Summarize: {c}", "Summarize this text in one sentence: {c}", "{c}\n\nSay it in one sentence.", "What is this text about? {c}",
                 "Make it short: {c}", "Give me a summary of this text.\n{c}", "{c}\nPlease sum up."]
UNKNOWN = "The text does not say that."

SYSTEM = ["You are a helpful assistant.", "You are a friendly assistant.", "Answer in short sentences.", "You answer questions about a text.",
          "You are a small and polite helper.", "Be kind and clear.", "You help people to read.", "Answer the user."]

LABELS = {"person": ["name", "person", "who"], "thing": ["item", "thing", "object"], "color": ["color"], "place": ["place", "where"],
          "day": ["day", "date"], "street": ["street", "address"], "town": ["town", "city"], "number": ["count", "number"],
          "animal": ["animal"], "petname": ["pet name"], "pet": ["pet"], "food": ["food"], "job": ["job"], "hobby": ["hobby"],
          "hour": ["hour"], "price": ["price", "cost"], "size": ["size"], "feeling": ["feeling"], "material": ["material"],
          "vehicle": ["vehicle"], "month": ["month"], "weather": ["weather"], "language": ["language"], "flower": ["flower"],
          "vegetable": ["vegetable"], "instrument": ["instrument"], "season": ["season"], "clothes": ["clothes"]}


def _clash(name, others):
    return any(name == other or any(name in group and other in group for group in CLASHES) for other in others)


class Text:
    """A few facts put into sentences."""

    def __init__(self, rng, count, people=None):
        draw = Draw(rng, people)
        self.rng, self.facts = rng, []
        known = {}  # person -> kinds of facts told about that person
        previous = None
        for _ in range(count):
            kind = rng.choice(FACTS)
            while kind["name"] in ONCE and any(kind is other for other, _, _ in self.facts):
                kind = rng.choice(FACTS)
            values = {}
            for slot, pool in kind["slots"].items():
                if slot == "n" and previous and rng.random() < 0.35 and not _clash(kind["name"], known[previous]):
                    values[slot] = previous
                else:
                    values[slot] = draw.take(pool)
            say = fill(rng.choice(kind["says"]), values)
            person = values.get("n")
            if person and person == previous and say.startswith(person + " ") and not say.startswith(person + " from ") and rng.random() < 0.5:
                pronoun = "She " if person in WOMEN else "He " if person in MEN else None
                say = pronoun + say[len(person) + 1:] if pronoun else say
            for slot in ("n", "m"):
                if slot in values:
                    known.setdefault(values[slot], set()).add(kind["name"])
            previous = person if person and kind["slots"]["n"] == "person" else None
            self.facts.append((kind, values, say))
        self.draw = draw

    def text(self, fillers=0):
        sentences = [say for _, _, say in self.facts]
        for filler in self.rng.sample(FILLERS, fillers):
            sentences.insert(self.rng.randint(0, len(sentences)), filler)
        return " ".join(sentences)

    def unanswerable(self):
        """A question about somebody or something that the text does not mention."""
        kind = self.rng.choice(FACTS)
        values = {slot: self.draw.take(pool) for slot, pool in kind["slots"].items()}
        ask = self.rng.choice(kind["asks"])
        return fill(self.rng.choice(ask[0]), values), UNKNOWN, "unknown"


def _span(kind, values, template):
    first = template[1] if template.startswith("[") else ""
    pool = kind["slots"].get(first, "")
    text = fill(template, values)
    return text if pool in ("person", "town", "street", "petname", "day", "month", "language") else lower_first(text)


def text_questions(text, count):
    """Up to `count` questions about a text, each with its answer as a sentence and the bare words of the answer."""
    rng = text.rng
    every = [(kind, values, ask) for kind, values, _ in text.facts for ask in kind["asks"]]
    rng.shuffle(every)
    return [(fill(rng.choice(asks), values), fill(answer, values), _span(kind, values, span)) for kind, values, (asks, answer, span) in every[:count]]


def turns_of(*pairs):
    """Pairs of what the user says and what the assistant answers, as messages."""
    messages = []
    for user, assistant in pairs:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return messages


def context_questions(rng, app=None, turns=None, facts=None):
    """One text, one or several questions. `app` asks for the form that the app uses."""
    text = Text(rng, facts or rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8)))
    context = text.text(fillers=rng.choice((0, 0, 0, 1, 2)))
    found = text_questions(text, turns or rng.choice((1, 2, 3, 3, 4, 5)))
    if turns is None and rng.random() < 0.12:
        found[rng.randrange(len(found))] = text.unanswerable()
    app = rng.random() < 0.5 if app is None else app
    form = APP_QUESTION if app else rng.choice(QUESTION_FORMS)
    short = turns is None and rng.random() < 0.06
    pairs = []
    for number, (question, sentence, span) in enumerate(found):
        user = form.format(c=context, q=question) if number == 0 else (
            rng.choice(SOMEBODY_ASKS).format(q=lower_first(question), Q=question) if rng.random() < 0.6 else question)
        if short and number == 0:
            user += rng.choice((" Answer with as few words as you can.", "\nAnswer in one or two words.", " Just the words, please."))
        pairs.append((user, span if short and span != "unknown" and number == 0 else sentence))
    return turns_of(*pairs)


def _joined(first, second):
    """Two facts in one sentence; the same person is named once."""
    (kind_a, values_a, _), (kind_b, values_b, _) = first, second
    a, b = fill(kind_a["says"][0], values_a)[:-1], fill(kind_b["says"][0], values_b)
    who = values_a.get("n")
    if who and who == values_b.get("n") and a.startswith(who + " ") and b.startswith(who + " ") and not b.startswith(who + " from "):
        return f"{a} and {b[len(who) + 1:]}"
    return f"{a}, and {b if b.split()[0] in _proper(values_b) else lower_first(b)}"


def _proper(values):
    """The words that keep their capital inside a sentence."""
    names = {value.split()[0] for value in values.values() if value[0].isupper()}
    return names | {name + "'s" for name in names}


def summary(rng, app=None):
    """A text of one to five sentences, some without weight, told again in one sentence."""
    count = rng.choice((1, 2, 2, 2))
    text = Text(rng, count)
    context = text.text(fillers=rng.choice((0, 1, 2, 3)) if count > 1 else rng.choice((1, 2, 3)))
    result = _joined(*text.facts) if count == 2 else fill(text.facts[0][0]["says"][0], text.facts[0][1])
    app = rng.random() < 0.5 if app is None else app
    pairs = [((APP_SUMMARY if app else rng.choice(SUMMARY_FORMS)).format(c=context), result)]
    if rng.random() < 0.4:
        pairs += [(question, sentence) for question, sentence, _ in text_questions(text, 2)]
    return turns_of(*pairs)


def form(rng):
    """Take parts of a text and write them down in a given form."""
    text = Text(rng, rng.choice((1, 1, 2, 3)))
    fields = []
    pools = [pool for kind, _, _ in text.facts for pool in kind["slots"].values()]
    for kind, values, _ in text.facts:
        for slot, pool in kind["slots"].items():
            if pools.count(pool) > 1:  # two names, say: the form would not tell which one it wants
                continue
            label = rng.choice(LABELS[pool])
            value = values[slot]
            if label == "count" and value in NUMBERS:
                value = str(NUMBERS.index(value))
            if label not in [name for name, _ in fields]:
                fields.append((label, value))
    if not fields:
        return form(rng)
    rng.shuffle(fields)
    fields = fields[:rng.randint(2, 6)]
    context = text.text(fillers=rng.choice((0, 0, 1)))
    names = [label for label, _ in fields]
    style = rng.randrange(6)
    if style == 0:
        ask, answer = f"Write down the {listing(names)}.", "\n".join(f"{label}: {value}" for label, value in fields)
    elif style == 1:
        ask, answer = f"Fill in the form: {', '.join(names)}.", "\n".join(f"- {label}: {value}" for label, value in fields)
    elif style == 2:
        ask, answer = f"Give me the {listing(names)} in one line.", "; ".join(f"{label}: {value}" for label, value in fields)
    elif style == 3:
        ask, answer = f"Make a note with {listing(names)}.", "Note. " + " ".join(f"{upper_first(label)}: {value}." for label, value in fields)
    elif style == 4:
        ask, answer = f"Only the {listing(names)}, please.", ", ".join(value for _, value in fields)
    else:
        ask, answer = f"Use the form ({') ('.join(names)}).", " ".join(f"({label} = {value})" for label, value in fields)
    return turns_of((f"{context}\n{ask}" if rng.random() < 0.6 else f"{ask}\n\n{context}", answer))


ORDER_OPENINGS = ["Hello, this is {n} from {r}.", "Hi, {n} from {r} here.", "Good morning, my name is {n} and I live in {r}.", "This is {n}, {r}.",
                  "Hello! I am {n} and my street is {r}.", "Good evening, {n} speaking, from {r}.", "Dear shop, I am {n} from {r}."]
ORDER_WISHES = ["Please send {k} {c} {t} on {d}.", "I would like {k} {c} {t} for {d}.", "Could you bring {k} {c} {t} on {d}?", "I need {k} {c} {t} on {d}.",
                "Can I have {k} {c} {t} on {d}, please?", "On {d} I would like to get {k} {c} {t}.", "I want to order {k} {c} {t} for {d}."]
ORDER_ENDINGS = ["", "", " Thank you!", " Thanks a lot.", " Many thanks.", " Have a nice day.", " It is a present."]


def order_values(rng, people=None):
    draw = Draw(rng, people)
    return {"n": draw.take("person"), "r": draw.take("street"), "k": draw.take("number"), "c": draw.take("color"), "t": draw.take("thing"),
            "d": draw.take("day")}


def order_message(rng, values):
    """What somebody writes to a shop. The wish can come before the name."""
    shown = dict(values, t=plural(values["t"]))
    opening, wish = rng.choice(ORDER_OPENINGS).format(**shown), rng.choice(ORDER_WISHES).format(**shown)
    return (f"{wish} {opening}" if rng.random() < 0.15 else f"{opening} {wish}") + rng.choice(ORDER_ENDINGS)


def order_talk(rng):
    """A shop's friendly answer to an order, sometimes with questions about the order afterwards."""
    values = order_values(rng)
    shown = dict(values, t=plural(values["t"]))
    pairs = [(order_message(rng, values), "Thank you, {n}. You will get {k} {c} {t} on {d}.".format(**shown))]
    later = [("Who wants the {t}?", "{n} wants the {t}."), ("In which street does {n} live?", "{n} lives in {r}."), ("How many {t}?", "{k} {t}."),
             ("Which color?", "The {t} are {c}."), ("On which day?", "On {d}."), ("What is it about?", "It is about {k} {c} {t}."),
             ("What is the name?", "The name is {n}."), ("What is the street?", "The street is {r}."), ("What should I send?", "Please send {k} {c} {t}.")]
    for question, answer in rng.sample(later, rng.choice((0, 1, 2, 3))):
        pairs.append((question.format(**shown), upper_first(answer.format(**shown))))
    return turns_of(*pairs)


NOTICE_STARTS = ["Good morning, everyone.", "Hello, neighbors.", "Dear all,", "Hello!", "I need your help.", "A word to everybody."]
NOTICE_MIDDLES = ["It is a present from my aunt.", "I like it very much.", "It is not worth much.", "It was quite new.", "I looked for it for an hour."]
NOTICE_ENDS = ["Please call me if you see it.", "Please bring it back.", "I would be so happy to get it back.", "Thank you for your help.",
               "I will bake a cake for the finder."]


def notice_values(rng, people=None):
    draw = Draw(rng, people)
    return {"n": draw.take("person"), "r": draw.take("street"), "c": draw.take("color"), "t": draw.take("thing"), "p": draw.take("place"),
            "d": draw.take("day")}


def notice_message(rng, values):
    """A note on the village board about a lost thing."""
    who = rng.choice(("I am {n} from {r}.", "My name is {n} and I live in {r}.", "This is {n} from {r}.", "{n} here, from {r}."))
    what = rng.choice(("On {d} I lost my {c} {t} in the {p}.", "I was in the {p} on {d} and lost my {c} {t} there.",
                       "My {c} {t} is gone, I left it in the {p} on {d}.", "I left my {c} {t} in the {p} on {d}."))
    parts = [rng.choice(NOTICE_STARTS), who, what, rng.choice(NOTICE_MIDDLES), rng.choice(NOTICE_ENDS)]
    if rng.random() < 0.3:
        del parts[3]
    if rng.random() < 0.3:
        del parts[0]
    return " ".join(part.format(**values) for part in parts)


def notice_talk(rng):
    """Summaries of and questions about notes on the village board."""
    values = notice_values(rng)
    text = notice_message(rng, values)
    result = "{n} lost a {c} {t} in the {p} on {d}.".format(**values).replace(" a orange ", " an orange ")
    asks = [("Who lost the {t}?", "{n} lost the {t}."), ("Where was the {t} lost?", "The {t} was lost in the {p}."), ("What did {n} lose?", "{n} lost the {t}."),
            ("What color is the {t}?", "The {t} is {c}."), ("When was the {t} lost?", "The {t} was lost on {d}."), ("Where does {n} live?", "{n} lives in {r}.")]
    asks = [(question.format(**values), answer.format(**values)) for question, answer in rng.sample(asks, rng.choice((1, 2, 3)))]
    if rng.random() < 0.5:
        form_used = APP_SUMMARY if rng.random() < 0.6 else rng.choice(SUMMARY_FORMS)
        return turns_of((form_used.format(c=text), result), *asks[1:])
    form_used = APP_QUESTION if rng.random() < 0.6 else rng.choice(QUESTION_FORMS)
    return turns_of((form_used.format(c=text, q=asks[0][0]), asks[0][1]), *asks[1:])


def copying(rng):
    """Say again, pick out, put in order, swap: plain handling of words in the prompt."""
    words = [nonce(rng) if rng.random() < 0.4 else rng.choice(THINGS) for _ in range(rng.randint(3, 9))]
    words = list(dict.fromkeys(words))
    line = " ".join(words)
    place = rng.randrange(len(words))
    ordinals = "first second third fourth fifth sixth seventh eighth ninth".split()
    style = rng.randrange(11)
    if style == 0:
        return turns_of((rng.choice(("Repeat after me: {}", "Say this: {}", "Repeat: {}", "Copy these words: {}")).format(line), line))
    if style == 1:
        sentence = Text(rng, rng.choice((1, 1, 2))).text()
        return turns_of((rng.choice(("Repeat after me: {}", "Copy this sentence: {}", "Write this again: {}", "Say it again: {}")).format(sentence), sentence))
    if style == 2:
        return turns_of((f"What is the {ordinals[place]} word here? {line}", f"The {ordinals[place]} word is {words[place]}."))
    if style == 3 and len(words) > 1:
        place = rng.randrange(len(words) - 1)
        return turns_of((f"{line}\nWhich word comes after {words[place]}?", f"After {words[place]} comes {words[place + 1]}."))
    if style == 4 and len(words) > 1:
        place = rng.randrange(1, len(words))
        return turns_of((f"{line}\nWhich word comes before {words[place]}?", f"Before {words[place]} comes {words[place - 1]}."))
    if style == 5:
        return turns_of((f"What is the last word here? {line}", f"The last word is {words[-1]}."))
    if style == 6:
        return turns_of((f"Write these words as a list: {line}", "\n".join(f"- {word}" for word in words)))
    if style == 7:
        return turns_of((f"Put commas between these words: {line}", ", ".join(words)))
    if style == 8:
        few = words[:4]
        return turns_of((f"Say these words backwards: {' '.join(few)}", " ".join(reversed(few))))
    if style == 9:
        text = Text(rng, 1)
        kind, values, say = text.facts[0]
        names = [value for slot, value in values.items() if kind["slots"][slot] == "person"]
        other = rng.choice(PEOPLE)
        if names and names[0] in say and other not in say:
            return turns_of((f"Write {other} for {names[0]}: {say}", say.replace(names[0], other)))
        return turns_of((f"Write this twice: {say}", f"{say} {say}"))
    keys = {word: nonce(rng) if rng.random() < 0.5 else rng.choice(DAYS + PEOPLE) for word in words}
    pairs = "\n".join(f"{word}: {value}" for word, value in keys.items())
    asked = rng.sample(list(keys), min(3, len(keys)))
    return turns_of(*[((f"{pairs}\n\nWhat is written next to {word}?" if number == 0 else f"And next to {word}?"),
                     f"Next to {word} is written {keys[word]}.") for number, word in enumerate(asked)])

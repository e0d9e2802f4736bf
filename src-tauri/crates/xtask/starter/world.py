"""The generator of the starter model's world: an endless, seeded stream of short conversations.

A conversation is a dictionary with `kind` and `messages` (role and content), as a chat template takes them. Conversations whose
words hash into a small set of buckets are held out: the stream for training never yields them, and the measurements use nothing
else, so the two have no row in common whatever the seeds are.
"""

import hashlib
import random

import reading
from knowledge import instruction, plain_knowledge
from stories import description, letter, story
from talk import small_talk
from village import village_talk

HELD_OUT_BUCKETS, BUCKETS = 2, 100


def _pairs(maker):
    return lambda rng: reading.turns_of(*maker(rng))


# Kind of conversation, its share of the stream, and the function that makes one. Reading has the largest share because finding
# and copying what the prompt says is the hardest thing to learn here, and the one that fine-tuning builds on.
MIX = [("context questions", 0.38, reading.context_questions), ("summaries", 0.10, reading.summary), ("forms", 0.08, reading.form),
       ("orders", 0.05, reading.order_talk), ("notices", 0.04, reading.notice_talk), ("copying", 0.08, reading.copying),
       ("village", 0.10, _pairs(village_talk)), ("small talk", 0.06, _pairs(small_talk)), ("knowledge", 0.05, _pairs(plain_knowledge)),
       ("instructions", 0.025, _pairs(instruction)), ("stories", 0.02, _pairs(story)), ("descriptions", 0.0075, _pairs(description)),
       ("letters", 0.0075, _pairs(letter))]
MAKERS = {kind: maker for kind, _, maker in MIX}
LONG = ("context questions", "village", "small talk", "knowledge")


def is_held_out(messages):
    """Decided by the text of the first user message: the same text is always on the same side."""
    first = next(message["content"] for message in messages if message["role"] == "user")
    return int.from_bytes(hashlib.sha256(first.encode()).digest()[:4], "big") % BUCKETS < HELD_OUT_BUCKETS


def conversation(rng, kind=None):
    """One conversation; sometimes with a system prompt, sometimes two or three topics after another."""
    kind = kind or rng.choices([name for name, _, _ in MIX], [share for _, share, _ in MIX])[0]
    messages = MAKERS[kind](rng)
    while kind in LONG and rng.random() < 0.08:  # go on with something else, so that long conversations are known
        messages = messages + MAKERS[rng.choice(("context questions", "small talk", "village", "orders", "summaries"))](rng)
    if rng.random() < 0.15:
        messages = [{"role": "system", "content": rng.choice(reading.SYSTEM)}] + messages
    return {"kind": kind, "messages": messages}


def stream(seed, held_out=False, kind=None):
    """Conversations without end, from one side of the split. Small talk and the like are few in number and stand on both sides."""
    rng = random.Random(seed)
    while True:
        row = conversation(rng, kind)
        if row["kind"] not in SPLIT or is_held_out(row["messages"]) == held_out:
            yield row


# The kinds that are split. What the model is to know by heart (the village, small talk, plain knowledge) cannot be held out: a fact
# that was never shown cannot be known.
SPLIT = {"context questions", "summaries", "forms", "orders", "notices", "copying", "stories", "letters"}

"""Tiny stories, descriptions and letters. The topic that the user asks for is carried through the whole text."""

from words import ANIMALS, COLORS, JOBS, PEOPLE, SIZES, THINGS, WOMEN, article, nonce, plural

_HOMES = ["in a forest", "near a lake", "in a quiet village", "on a green hill", "in an old tower", "beside a river", "in a little house", "behind the mill"]
_TRAITS = ["clever", "brave", "lazy", "kind", "curious", "shy", "funny", "careful", "proud", "cheerful"]
_ENDINGS = ["From that day on, they were friends.", "Everybody was happy in the end.", "Then {pro} went home and slept well.", "And so the day ended well.",
            "It was the best day of the year.", "{Pro} never forgot that day."]
_STARTS = ["Once there was {a_trait} {topic} {home}.", "There was once {a_trait} {topic} that lived {home}.", "Long ago, {a_trait} {topic} lived {home}."]
_MIDDLES = [["One morning {pro} found {a_color} {thing}.", "{Pro} asked everyone: whose {thing} is this?", "At last {friend} came and said: it is my {thing}!"],
            ["One day {pro} wanted to see the world.", "{Pro} packed {a_color} {thing} and walked all day.", "In the evening {pro} met {friend}, and they ate together."],
            ["One night {pro} heard a strange sound.", "{Pro} took {a_color} {thing} and looked outside.", "It was only {friend}, who could not sleep."],
            ["In winter {pro} was cold and hungry.", "{friend} saw it and brought {a_color} {thing}.", "After that {pro} was warm again."],
            ["The {topic} had lost {a_color} {thing}.", "{Pro} looked under every tree and behind every stone.", "Then {friend} helped, and they found the {thing}."],
            ["One summer day {pro} could not find the way home.", "{friend} gave {obj} {a_color} {thing} and showed the way.", "Soon {pro} was home again."]]

_LOOKS = {"fox": "red fur and a long tail", "cat": "soft fur and sharp claws", "dog": "four legs and a good nose", "horse": "long legs and a mane",
          "owl": "big eyes and soft wings", "frog": "green skin and long legs", "elephant": "a long nose and big ears", "duck": "a flat beak and wet feet",
          "rabbit": "long ears and a short tail", "bee": "six legs and four wings", "bear": "thick fur and strong paws", "fish": "fins and wet scales",
          "mouse": "a thin tail and small ears", "sheep": "thick white wool", "goat": "two horns and a beard", "lion": "a big mane and a loud voice",
          "snake": "no legs and dry skin", "hedgehog": "a thousand spines", "penguin": "black and white feathers", "deer": "thin legs and quick ears"}
_SEE = {"lake": "The lake is calm and blue. Ducks swim on it, and boats lie at the bank.", "forest": "The forest is green and quiet. Tall trees stand there, and deer walk between them.",
        "market": "The market is loud and full of colors. People buy apples, bread and flowers.", "school": "The school is a bright house. Children learn and laugh there.",
        "winter": "Winter is cold and white. Snow lies on the roofs, and the nights are long.", "summer": "Summer is warm and bright. People swim in the lake and eat cherries.",
        "spring": "Spring is fresh and green. Flowers grow, and birds build their nests.", "autumn": "Autumn is windy and colorful. Leaves fall, and apples are ripe.",
        "sea": "The sea is wide and salty. Waves come and go all day.", "kitchen": "The kitchen is warm. It smells of bread and soup.",
        "garden": "The garden is full of flowers. Bees fly from one to the next.", "night": "The night is dark and still. The moon shines, and the owl calls.",
        "castle": "The castle stands on a hill. It has a high tower and thick walls.", "village": "The village is small and friendly. Everyone knows everyone.",
        "rain": "Rain falls from gray clouds. It makes the fields green.", "moon": "The moon is round and pale. It shines at night.",
        "sun": "The sun is hot and bright. It gives light to the day.", "river": "The river is long and cool. Fish swim in it."}


def story(rng):
    """A story of four to six sentences about an animal, a person with some job, or a made-up creature."""
    person = rng.random() < 0.3
    topic = rng.choice(JOBS) if person else nonce(rng) if rng.random() < 0.15 else rng.choice(ANIMALS)
    name = rng.choice(PEOPLE) if rng.random() < 0.35 else None
    pro = ("she" if name in WOMEN else "he") if name else rng.choice(("he", "she")) if person else "it"
    other = rng.choice([animal for animal in ANIMALS if animal != topic])
    friend = article(f"{rng.choice(_TRAITS)} {other}")
    values = {"topic": topic, "a_trait": article(rng.choice(_TRAITS)), "home": rng.choice(_HOMES), "thing": rng.choice(THINGS), "a_color": article(rng.choice(COLORS)),
              "friend": friend, "pro": pro, "Pro": pro.capitalize(), "obj": {"she": "her", "he": "him", "it": "it"}[pro]}
    sentences = [rng.choice(_STARTS)] + ([f"The name of the {{topic}} was {name}."] if name else []) + rng.choice(_MIDDLES) + [rng.choice(_ENDINGS)]
    told = [sentence.format(**values) for sentence in sentences]
    told = " ".join(sentence[0].upper() + sentence[1:] for sentence in told)
    about = f"{article(topic)} called {name}" if name else article(topic)
    asks = ["Tell me a story about {}.", "Write a story about {}.", "Tell me a little story about {}.", "I want to hear a story about {}.", "A story about {}, please.",
            "Can you tell me a story about {}?"]
    pairs = [(rng.choice(asks).format(about), told)]
    if rng.random() < 0.1:
        pairs = [(rng.choice(("Tell me a story.", "Do you know a story?", "Write a short story.", "Tell me a story, please.")), told)]
    later = [("Who is the story about?", f"The story is about {article(topic)}."), (f"Where did the {topic} live?", f"The {topic} lived {values['home']}.")]
    if rng.random() < 0.35:
        pairs.append(rng.choice(later))
    return pairs


def description(rng):
    """What something looks like, in two sentences."""
    which = rng.random()
    if which < 0.4:
        animal = rng.choice(list(_LOOKS))
        return [(rng.choice(("Describe {}.", "What does {} look like?", "Tell me what {} looks like.")).format(article(animal)), f"{article(animal).capitalize()} has {_LOOKS[animal]}.")]
    if which < 0.75:
        place = rng.choice(list(_SEE))
        the = place if place in ("winter", "summer", "spring", "autumn", "rain") else f"the {place}"
        return [(rng.choice(("Describe {}.", "Tell me about {}.", "Write about {}.")).format(the), _SEE[place])]
    size, color, thing = rng.choice(SIZES), rng.choice(COLORS), rng.choice(THINGS)
    return [(rng.choice((f"Describe {article(size)} {color} {thing}.", f"Write two sentences about {article(size)} {color} {thing}.")),
             f"Here is {article(size)} {color} {thing}. The {thing} is {size}, and its color is {color}.")]


def letter(rng):
    """Short notes: invitations, thanks, wishes, written for the names that the user gives."""
    sender, receiver = rng.sample(PEOPLE, 2)
    if rng.random() < 0.3:
        receiver = nonce(rng).capitalize()
    thing, day = rng.choice(THINGS), rng.choice("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
    size = rng.choice(SIZES)
    return [rng.choice((
        (f"Write an invitation to {receiver} for {day}.", f"Dear {receiver}, please come to my house on {day}. I would be very happy to see you."),
        (f"Write a thank-you note to {receiver} for the {thing}.", f"Dear {receiver}, thank you for the {thing}. I like it very much."),
        (f"Write birthday wishes for {receiver}.", f"Happy birthday, {receiver}! I wish you a lovely day and a good year."),
        (f"Write a letter from {sender} to {receiver} about the {thing}.", f"Dear {receiver}, I have {article(size)} {thing} for you. Please come and see it. Yours, {sender}"),
        (f"Tell {receiver} politely that the {thing} is broken.", f"Dear {receiver}, I am sorry, but the {thing} is broken."),
        (f"Ask {receiver} for the {thing}.", f"Dear {receiver}, could you please give me the {thing}?"),
        (f"Ask {receiver} to bring three {plural(thing)} on {day}.", f"Dear {receiver}, could you please bring three {plural(thing)} on {day}?")))]

"""Plain knowledge and plain instructions: animals, opposites, plurals, sums, lists, sentences with a given word."""

from words import (ANIMALS, CLOTHES, COLORS, DAYS, FLOWERS, FOODS, FRUITS, FURNITURE, INSTRUMENTS, IRREGULAR, JOBS, MONTHS, NUMBERS, PEOPLE, PLACES, ROOMS, SEASONS,
                   THINGS, TOOLS, TREES, VEGETABLES, VEHICLES, article, listing, nonce, plural, upper_first)

# animal: food, home, sound, young, legs, can fly
_ANIMALS = """
cat|mice|a house|meows|kitten|4|no
dog|meat|a house|barks|puppy|4|no
horse|hay|a stable|neighs|foal|4|no
cow|grass|a barn|moos|calf|4|no
pig|corn|a sty|grunts|piglet|4|no
sheep|grass|a meadow|bleats|lamb|4|no
goat|leaves|a meadow|bleats|kid|4|no
hen|corn|a henhouse|clucks|chick|2|no
duck|water plants|a pond|quacks|duckling|2|yes
goose|grass|a farm|honks|gosling|2|yes
owl|mice|a tree|hoots|owlet|2|yes
eagle|fish|the mountains|screams|eaglet|2|yes
frog|flies|a pond|croaks|tadpole|4|no
bear|honey|the forest|growls|cub|4|no
wolf|meat|the forest|howls|cub|4|no
fox|hens|a den|barks|cub|4|no
rabbit|carrots|a hole|squeaks|bunny|4|no
mouse|cheese|a hole|squeaks|pup|4|no
squirrel|nuts|a tree|chatters|kit|4|no
hedgehog|beetles|the garden|snuffles|hoglet|4|no
deer|leaves|the forest|bellows|fawn|4|no
lion|meat|the savanna|roars|cub|4|no
tiger|meat|the jungle|roars|cub|4|no
elephant|leaves|the savanna|trumpets|calf|4|no
monkey|bananas|the jungle|chatters|baby|4|no
snake|mice|the grass|hisses|hatchling|0|no
bee|nectar|a hive|hums|larva|6|yes
spider|flies|a web|is silent|spiderling|8|no
butterfly|nectar|the garden|is silent|caterpillar|6|yes
parrot|seeds|a cage|talks|chick|2|yes
penguin|fish|the ice|honks|chick|2|no
swan|water plants|a lake|hisses|cygnet|2|yes
crow|worms|a tree|caws|chick|2|yes
donkey|hay|a stable|brays|foal|4|no
fish|worms|the water|is silent|fry|0|no
"""
FAUNA = [dict(zip("name food home sound young legs flies".split(), line.split("|"))) for line in _ANIMALS.strip().splitlines()]

OPPOSITES = """hot cold,big small,old new,young old,long short,high low,fast slow,happy sad,good bad,light dark,heavy light,hard soft,wet dry,clean dirty,open closed,
full empty,rich poor,strong weak,thick thin,wide narrow,early late,loud quiet,near far,easy difficult,beautiful ugly,sweet sour,left right,up down,day night,black white,
yes no,in out,begin end,come go,buy sell,give take,laugh cry,push pull,win lose,find lose,love hate,summer winter,always never,first last,front back,top bottom,
true false,same different,brave afraid,deep shallow,sharp blunt,tall short,warm cool,awake asleep,alive dead,friend enemy,question answer,remember forget,
inside outside,before after,more less,many few,cheap expensive,busy free,lazy busy,polite rude,kind cruel,smooth rough""".replace("\n", "").split(",")
_PAST = """go went,see saw,eat ate,run ran,come came,give gave,take took,find found,buy bought,make made,write wrote,read read,sing sang,swim swam,drink drank,sleep slept,
fly flew,speak spoke,think thought,bring brought,catch caught,know knew,have had,be was,do did,say said,tell told,sit sat,stand stood,win won,lose lost,build built,
walk walked,play played,work worked,open opened,close closed,paint painted,cook cooked,help helped,laugh laughed,jump jumped,look looked,call called""".replace("\n", "")
PAST = [pair.split() for pair in _PAST.split(",")]
THING_COLORS = """sky blue,grass green,snow white,sun yellow,blood red,coal black,milk white,tomato red,lemon yellow,carrot orange,cucumber green,night black,chocolate brown,
strawberry red,banana yellow,elephant gray,leaf green,plum purple,frog green,crow black,swan white,cherry red,lime green,sea blue,cloud white""".replace("\n", "").split(",")
USES = """hammer|hit nails;saw|cut wood;needle|sew;broom|sweep the floor;knife|cut bread;spoon|eat soup;key|open a door;pen|write;umbrella|stay dry;lamp|make light;clock|see the time;
towel|dry yourself;soap|wash your hands;bed|sleep;boat|cross the water;kettle|boil water;comb|tidy your hair;ladder|climb up;map|find the way;cup|drink tea;bag|carry things;
phone|call people;mirror|look at yourself;brush|paint;shovel|dig a hole;chair|sit;bell|make a sound;rope|tie things;candle|make light;scarf|keep warm;glove|keep your hands warm;
telescope|see the stars;book|read;ruler|measure things;piano|make music;bucket|carry water;helmet|protect your head;stamp|send a letter""".replace("\n", "").split(";")
WORK = """baker|bakes bread;teacher|teaches children;farmer|grows food;doctor|helps sick people;nurse|cares for sick people;painter|paints pictures;singer|sings songs;driver|drives a bus;
cook|cooks meals;gardener|grows flowers;tailor|sews clothes;carpenter|works with wood;fisher|catches fish;writer|writes books;dancer|dances;pilot|flies planes;dentist|looks after teeth;
mechanic|repairs cars;plumber|repairs pipes;waiter|serves food;librarian|looks after books;postman|brings letters;sailor|sails on ships;smith|works with iron;shepherd|keeps sheep;
potter|makes pots;barber|cuts hair;florist|sells flowers;clown|makes people laugh;judge|decides what is right""".replace("\n", "").split(";")
GROUPS = {"fruit": FRUITS, "vegetable": VEGETABLES, "color": COLORS, "animal": ANIMALS, "day": DAYS, "month": MONTHS, "season": SEASONS, "job": JOBS, "flower": FLOWERS, "tree": TREES,
          "tool": TOOLS, "piece of furniture": FURNITURE, "musical instrument": INSTRUMENTS, "vehicle": VEHICLES, "food": FOODS, "room": ROOMS, "piece of clothing": CLOTHES}
GROUP_PLURALS = {"piece of furniture": "pieces of furniture", "piece of clothing": "pieces of clothing", "food": "foods"}

_FIXED = """
How many days are in a week?|How many days does a week have?=>A week has seven days.
How many months are in a year?|How many months does a year have?=>A year has twelve months.
How many seasons are there?|What are the seasons?|Name the seasons.=>There are four seasons: spring, summer, autumn and winter.
How many hours are in a day?|How many hours does a day have?=>A day has twenty-four hours.
How many minutes are in an hour?|How many minutes does an hour have?=>An hour has sixty minutes.
Name the days of the week.|What are the days of the week?=>Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.
Which days are the weekend?|What days are the weekend?=>Saturday and Sunday are the weekend.
When does the sun rise?|When does the day begin?=>The sun rises in the morning.
When can I see the moon?|When do the stars shine?=>You can see them at night.
When do leaves fall?|In which season do leaves fall?=>Leaves fall in autumn.
When does it snow?|In which season does it snow?=>It snows in winter.
When do flowers begin to grow?|In which season do flowers begin to grow?=>Flowers begin to grow in spring.
When can I swim in the lake?|Which season is the hottest?=>Summer is the hottest season.
What is ice?|What is ice made of?=>Ice is frozen water.
Where does milk come from?|Who gives us milk?=>Milk comes from cows.
Where does honey come from?|Who makes honey?=>Honey comes from bees.
Where does wool come from?|Who gives us wool?=>Wool comes from sheep.
Where do eggs come from?|Who lays eggs?=>Eggs come from hens.
What is bread made of?|What do you need for bread?=>Bread is made of flour, water and salt.
What is cheese made of?|What do you need for cheese?=>Cheese is made of milk.
What do plants need?|What does a flower need?=>Plants need water and light.
What do you see with?|What are eyes for?=>We see with our eyes.
What do you hear with?|What are ears for?=>We hear with our ears.
What do you smell with?|What is the nose for?=>We smell with our nose.
How many legs does a person have?|How many eyes does a person have?|How many ears does a person have?=>A person has two.
How many fingers are on a hand?|How many fingers does a hand have?=>A hand has five fingers.
What do I get if I mix blue and yellow?|What color do blue and yellow make?=>Blue and yellow make green.
What do I get if I mix red and yellow?|What color do red and yellow make?=>Red and yellow make orange.
What do I get if I mix red and blue?|What color do red and blue make?=>Red and blue make purple.
What do I get if I mix black and white?|What color do black and white make?=>Black and white make gray.
"""
FIXED = [(line.split("=>")[0].split("|"), line.split("=>")[1]) for line in _FIXED.strip().splitlines()]

_SENTENCES = {"thing": ["The {w} is on the table.", "I have a new {w}.", "Please give me the {w}.", "My {w} is at home."],
              "animal": ["The {w} runs over the meadow.", "I saw a {w} in the garden.", "The {w} is hungry."],
              "food": ["I like {w} in the morning.", "She eats {w} every day.", "The {w} tastes good."],
              "place": ["We walk to the {w}.", "The {w} is quiet today.", "I am in the {w}."],
              "job": ["The {w} works all day.", "My aunt is a {w}.", "The {w} is friendly."]}


def _one(rng):
    """One question about the world in general, with its answer."""
    pick = rng.randrange(16)
    if pick == 0:
        return (lambda asks, answer: (rng.choice(asks), answer))(*rng.choice(FIXED))
    if pick in (1, 2):
        animal = rng.choice(FAUNA)
        name, a_name = animal["name"], article(animal["name"])
        A = upper_first(a_name)
        legs = NUMBERS[int(animal["legs"])] if animal["legs"] != "0" else "no"
        return rng.choice([
            (rng.choice((f"What does {a_name} eat?", f"What do {plural(name)} eat?", f"What food does {a_name} like?")), f"{A} eats {animal['food']}."),
            (rng.choice((f"Where does {a_name} live?", f"Where do {plural(name)} live?", f"What is the home of {a_name}?")), f"{A} lives in {animal['home']}."),
            (rng.choice((f"What sound does {a_name} make?", f"What does {a_name} say?", f"Which sound does {a_name} make?")), f"{A} {animal['sound']}."),
            (rng.choice((f"What is a young {name} called?", f"What is the baby of {a_name} called?")), f"A young {name} is called {article(animal['young'])}."),
            (rng.choice((f"How many legs does {a_name} have?", f"How many legs do {plural(name)} have?")), f"{A} has {legs} legs."),
            (rng.choice((f"Can {a_name} fly?", f"Do {plural(name)} fly?")), f"Yes, {a_name} can fly." if animal["flies"] == "yes" else f"No, {a_name} cannot fly.")])
    if pick == 3:
        a, b = rng.choice(OPPOSITES).split()
        return rng.choice((f"What is the opposite of {a}?", f"Tell me the opposite of {a}.", f"Opposite of {a}?")), f"The opposite of {a} is {b}."
    if pick == 4:
        word = rng.choice(list(IRREGULAR) + THINGS + ANIMALS)
        return rng.choice((f"What is the plural of {word}?", f"Plural of {word}?", f"Tell me the plural of {word}.")), f"The plural of {word} is {plural(word)}."
    if pick == 5:
        now, past = rng.choice(PAST)
        return rng.choice((f"What is the past of {now}?", f"Past form of {now}?", f"What is the past form of {now}?")), f"The past of {now} is {past}."
    if pick in (6, 7):
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        if rng.random() < 0.4:
            a, b = max(a, b), min(a, b)
            return rng.choice((f"What is {a} minus {b}?", f"{a} - {b}?", f"How much is {a} minus {b}?")), f"{a} minus {b} is {a - b}."
        return rng.choice((f"What is {a} plus {b}?", f"{a} + {b}?", f"How much is {a} plus {b}?", f"Add {a} and {b}.")), f"{a} plus {b} is {a + b}."
    if pick == 8:
        number = rng.randint(0, 19)
        return rng.choice([(f"What comes after {NUMBERS[number]}?", f"After {NUMBERS[number]} comes {NUMBERS[number + 1]}."),
                           (f"What comes before {NUMBERS[number + 1]}?", f"Before {NUMBERS[number + 1]} comes {NUMBERS[number]}."),
                           (f"Write {NUMBERS[number]} as a number.", f"{NUMBERS[number].capitalize()} is {number}."),
                           (f"Write {number} as a word.", f"{number} is {NUMBERS[number]}.")])
    if pick == 9:
        items = rng.choice((DAYS, MONTHS, SEASONS))
        place = rng.randrange(len(items))
        after, before = items[(place + 1) % len(items)], items[place - 1]
        return rng.choice([(f"What comes after {items[place]}?", f"After {items[place]} comes {after}."), (f"What comes before {items[place]}?", f"Before {items[place]} comes {before}.")])
    if pick == 10:
        thing, color = rng.choice(THING_COLORS).split()
        return rng.choice((f"What color is the {thing}?", f"What is the color of the {thing}?")) if thing in ("sky", "sun", "sea", "night") else f"What is the usual color of {article(thing)}?", (
            f"The {thing} is {color}." if thing in ("sky", "sun", "sea", "night") else f"{upper_first(article(thing))} is usually {color}.")
    if pick == 11:
        thing, use = rng.choice(USES).split("|")
        return rng.choice((f"What is {article(thing)} for?", f"What do you do with {article(thing)}?", f"What can I do with {article(thing)}?")), f"With {article(thing)} you can {use}."
    if pick == 12:
        job, does = rng.choice(WORK).split("|")
        if rng.random() < 0.3:
            return f"Who {does}?", f"{upper_first(article(job))} {does}."
        return rng.choice((f"What does {article(job)} do?", f"What is the work of {article(job)}?")), f"{upper_first(article(job))} {does}."
    if pick == 13:
        group = rng.choice(list(GROUPS))
        word = rng.choice(GROUPS[group])
        other = rng.choice(list(GROUPS))
        if group in ("day", "month", "color", "season") or other in ("day", "month", "color", "season") or rng.random() < 0.5 or word in GROUPS[other]:
            return rng.choice((f"What is {article(word)}?", f"What kind of thing is {article(word)}?")) if word[0].islower() and group not in ("color", "season", "food") else f"What is {word}?", (
                f"{upper_first(article(word) if word[0].islower() and group not in ('color', 'season', 'food') else word)} is {article(group)}.")
        return f"Is {article(word)} {article(other)}?", f"No, {article(word)} is {article(group)}."
    if pick == 14:
        word = rng.choice(THINGS + ANIMALS + FOODS)
        return rng.choice([(f"What is the first letter of {word}?", f"The first letter of {word} is {word[0].upper()}."),
                           (f"With which letter does {word} begin?", f"The first letter of {word} is {word[0].upper()}.")])
    group = rng.choice(list(GROUPS))
    word = nonce(rng)
    return rng.choice((f"What is a {word}?", f"What does {word} mean?")), "I am sorry, I do not know that word."


def plain_knowledge(rng):
    return [_one(rng) for _ in range(rng.choice((1, 2, 3, 4)))]


def instruction(rng):
    """Simple things to do: list, count, make a sentence, say it politely."""
    pick = rng.randrange(8)
    group = rng.choice(list(GROUPS))
    groups = GROUP_PLURALS.get(group, plural(group))
    if pick in (0, 1):
        count = rng.randint(2, 4)
        chosen = rng.sample(GROUPS[group], count)
        ask = rng.choice(("List {} {}.", "Name {} {}.", "Tell me {} {}.", "Give me {} {}.")).format(NUMBERS[count], groups)
        if pick == 1 and rng.random() < 0.5:
            return [(ask[:-1] + " as a list.", "\n".join(f"- {word}" for word in chosen))]
        return [(ask, f"{NUMBERS[count].capitalize()} {groups} are {listing(chosen)}.")]
    if pick == 2:
        word = rng.choice(GROUPS[group])
        return [(rng.choice((f"Name {article(group)}.", f"Tell me {article(group)}.", f"Say {article(group)}.")), f"{upper_first(article(group))} is {word}." if group in ("color", "day", "month", "season") else f"{upper_first(article(word))} is {article(group)}.")]
    if pick in (3, 4):
        kind = rng.choice(list(_SENTENCES))
        word = {"thing": lambda: nonce(rng) if rng.random() < 0.25 else rng.choice(THINGS), "animal": lambda: rng.choice(ANIMALS), "food": lambda: rng.choice(FOODS),
                "place": lambda: rng.choice(PLACES), "job": lambda: rng.choice(JOBS)}[kind]()
        sentence = rng.choice(_SENTENCES[kind]).format(w=word)
        for vowel in "aeio":
            sentence = sentence.replace(f" a {vowel}", f" an {vowel}")
        return [(rng.choice((f"Make a sentence with the word {word}.", f"Use {word} in a sentence.", f"Write a sentence with {word}.")), sentence)]
    if pick == 5:
        thing, name = (nonce(rng) if rng.random() < 0.2 else rng.choice(THINGS)), rng.choice(PEOPLE)
        rude, polite = rng.choice([(f"Give me the {thing}!", f"Could you please give me the {thing}?"), (f"Bring the {thing}!", f"Could you please bring the {thing}?"),
                                   (f"Move the {thing}!", f"Could you please move the {thing}?"), (f"{name}, clean the {thing}!", f"{name}, could you please clean the {thing}?"),
                                   (f"{name}, find the {thing}!", f"{name}, could you please find the {thing}?"), (f"I want the {thing}!", f"I would like to have the {thing}, please.")])
        return [(rng.choice(("Say this politely: {}", "Make this polite: {}", "Rewrite politely: {}")).format(rude), polite)]
    if pick == 6:
        name, thing = rng.choice(PEOPLE), rng.choice(THINGS)
        says, asks, says_not = rng.choice([(f"{name} has the {thing}.", f"Does {name} have the {thing}?", f"{name} does not have the {thing}."),
                                           (f"{name} is at home.", f"Is {name} at home?", f"{name} is not at home."),
                                           (f"{name} likes the {thing}.", f"Does {name} like the {thing}?", f"{name} does not like the {thing}."),
                                           (f"{name} can see the {thing}.", f"Can {name} see the {thing}?", f"{name} cannot see the {thing}.")])
        return [(f"Make this a question: {says}", asks)] if rng.random() < 0.5 else [(f"Say the opposite: {says}", says_not)]
    count = rng.randint(2, 10)
    if rng.random() < 0.5:
        return [(rng.choice((f"Count to {NUMBERS[count]}.", f"Count from one to {NUMBERS[count]}.")), ", ".join(NUMBERS[1:count + 1]) + ".")]
    words = rng.sample(THINGS, rng.randint(2, 6))
    return [(f"How many words are here? {' '.join(words)}", f"There are {NUMBERS[len(words)]} words.")]

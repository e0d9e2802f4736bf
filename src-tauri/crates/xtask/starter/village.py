"""The village of Thistlebrook: facts that the starter model knows by heart.

Nobody and nothing here is real. A model of this size can hold a few hundred facts when each is asked often and in several ways.
"""

from words import NUMBERS, article, listing, nonce, upper_first

VILLAGE = "Thistlebrook"

# name, she or he, job, place of work, street, color of the door, pet, name of the pet, favorite color, favorite food, hobby, age,
# a relative as (what, who)
_TABLE = """
Tilda|she|baker|bakery|Plum Lane|red|cat|Crumb|yellow|plum cake|singing|41|sister Odette
Odette|she|florist|flower shop|Plum Lane|blue|parrot|Captain|pink|pancakes|dancing|38|sister Tilda
Barnaby|he|carpenter|workshop|Willow Row|green|dog|Plank|brown|onion soup|fishing|52|wife Myrtle
Myrtle|she|teacher|school|Willow Row|green|dog|Plank|purple|apple pie|reading|49|husband Barnaby
Rufus|he|postman|post office|Bridge End|yellow|dog|Stamp|blue|cheese|running|33|brother Percy
Percy|he|fisher|boat house|Bridge End|white|duck|Admiral|green|fish pie|rowing|36|brother Rufus
Marigold|she|doctor|doctor's house|Church Walk|white|rabbit|Bandage|orange|salad|swimming|45|daughter Juniper
Juniper|she|pupil|school|Church Walk|white|rabbit|Bandage|red|strawberries|drawing|9|mother Marigold
Ludo|he|cook|inn|Market Green|black|hen|Soup|golden|dumplings|cooking|58|wife Winnie
Winnie|she|innkeeper|inn|Market Green|black|hen|Soup|silver|tomato soup|knitting|55|husband Ludo
Cedric|he|farmer|Clover Farm|Long Field|brown|horse|Thunder|brown|potatoes|dancing|61|daughter Flora
Flora|she|shepherd|Clover Farm|Long Field|brown|sheep|Cloud|white|yogurt|hiking|27|father Cedric
Basil|he|gardener|castle garden|Castle Steps|purple|hedgehog|Cactus|green|radishes|chess|47|friend Nestor
Nestor|he|librarian|library|Castle Steps|gray|owl|Chapter|gray|toast|chess|66|friend Basil
Agnes|she|judge|town hall|Market Green|blue|cat|Justice|black|chocolate|sailing|63|grandson Silas
Silas|he|pupil|school|Market Green|blue|mouse|Button|blue|noodles|football|11|grandmother Agnes
Gideon|he|smith|forge|Anvil Yard|black|goat|Hammer|red|ham|painting|39|cousin Lambert
Lambert|he|miller|mill|Brook Side|yellow|donkey|Flour|yellow|porridge|whistling|44|cousin Gideon
Ottilie|she|tailor|tailor's shop|Needle Street|pink|cat|Thimble|violet|honey bread|sewing|51|niece Rosalind
Rosalind|she|singer|theater|Needle Street|pink|canary|Trill|golden|cherries|acting|24|aunt Ottilie
Quentin|he|dentist|doctor's house|Church Walk|gray|turtle|Slowpoke|white|carrots|cycling|40|neighbor Marigold
Harriet|she|mechanic|garage|Station Hill|orange|dog|Spanner|orange|pizza|skating|30|friend Rufus
Ambrose|he|mayor|town hall|Castle Steps|red|peacock|Duke|purple|roast goose|collecting coins|68|nephew Cedric
Bettina|she|train driver|station|Station Hill|green|hamster|Ticket|blue|rice pudding|playing the flute|35|friend Harriet
"""

KEYS = "name pronoun job work street door pet petname color food hobby age relative".split()
RESIDENTS = [dict(zip(KEYS, line.split("|"))) for line in _TABLE.strip().splitlines()]

# place, where it is, opens, closes, closed on, what you find there
_PLACES = """
bakery|in Plum Lane|six|three|Monday|bread, rolls and plum cake
flower shop|in Plum Lane|nine|five|Sunday|roses, tulips and lilies
workshop|in Willow Row|eight|six|Saturday|tables, chairs and shelves
school|behind the church|eight|two|Sunday|books, desks and children
post office|next to the bridge|nine|four|Wednesday|stamps, letters and parcels
boat house|by the lake|seven|eight|Tuesday|boats, nets and fresh fish
inn|on the market square|eleven|ten|Thursday|soup, bread and warm beds
library|in the old tower|ten|six|Friday|books, maps and quiet corners
town hall|on the market square|nine|twelve|Saturday|offices, papers and a big clock
forge|in Anvil Yard|eight|five|Sunday|keys, nails and horseshoes
mill|at the brook|seven|four|Thursday|flour, corn and oats
tailor's shop|in Needle Street|ten|seven|Monday|coats, shirts and buttons
theater|behind the inn|six|eleven|Monday|songs, plays and velvet seats
garage|on Station Hill|eight|six|Sunday|tires, oil and bicycles
museum|in the castle|ten|four|Tuesday|crowns, coins and old swords
swimming pool|near the station|seven|nine|Wednesday|water, towels and slides
"""
PLACES = [dict(zip("place where opens closes closed goods".split(), line.split("|"))) for line in _PLACES.strip().splitlines()]

_GENERAL = """
Where is Thistlebrook?|Where can I find Thistlebrook?|Where does Thistlebrook lie?=>Thistlebrook is a village between a lake and a hill.
How many people live in Thistlebrook?|How big is Thistlebrook?=>About three hundred people live in Thistlebrook.
What is the name of the lake?|Which lake is near Thistlebrook?=>The lake is called Mirror Lake.
What is the name of the hill?|Which hill is near Thistlebrook?=>The hill is called Goat Hill.
What is the name of the river?|Which brook runs through the village?|What brook is in Thistlebrook?=>The brook is called the Thistle.
What is Thistlebrook?|Tell me about Thistlebrook.|Do you know Thistlebrook?=>Thistlebrook is a small village with a lake, a hill, a castle and friendly people.
When is market day?|On which day is the market?|When is the market in Thistlebrook?=>Market day in Thistlebrook is Saturday.
When is the lantern festival?|When do people light lanterns?|When is the festival?=>The lantern festival is in October.
What do people do at the lantern festival?|What happens at the lantern festival?=>People carry lanterns around the lake and sing.
Who lives in the castle?|Does anyone live in the castle?=>Nobody lives in the castle. It is a museum now.
How do I get to Thistlebrook?|Can I go to Thistlebrook by train?|How can I travel to Thistlebrook?=>You can take the train. Bettina drives it.
Where is the castle?|Where does the castle stand?=>The castle stands on Goat Hill.
What is the flag of Thistlebrook?|What does the flag look like?=>The flag is green with a purple thistle.
What do people in Thistlebrook eat?|What is the famous food of Thistlebrook?=>Thistlebrook is famous for plum cake.
How old is Thistlebrook?|How old is the village?=>Thistlebrook is six hundred years old.
When does the train come?|How often does the train come?=>The train comes every hour.
Is there a ghost in the castle?|Does the castle have a ghost?=>Some say so, but the ghost is only the wind.
What can I do in Thistlebrook?|What can I see in Thistlebrook?=>You can swim in the lake, visit the castle and eat plum cake.
Who is the richest person in Thistlebrook?|Who is the most famous person?=>Nobody counts that in Thistlebrook.
How is the weather in Thistlebrook?|What is the weather like in Thistlebrook?=>It is often foggy in the morning and sunny later.
"""
GENERAL = [(line.split("=>")[0].split("|"), line.split("=>")[1]) for line in _GENERAL.strip().splitlines()]

_ASKS = """
What does {name} do?|What is {name}'s job?|What does {name} work as?|Which job does {name} have?=>{name} is {job_a}.
Where does {name} work?|What is {name}'s place of work?|Where can I find {name} during the day?=>{name} works at the {work}.
Where does {name} live?|In which street does {name} live?|What is {name}'s address?|Where is the house of {name}?=>{name} lives in {street}.
What color is {name}'s door?|Which color does the door of {name} have?|What color is the door of {name}?=>{name}'s door is {door}.
What pet does {name} have?|Does {name} have a pet?|What animal lives with {name}?|Which pet does {name} own?=>{name} has {pet_a} called {petname}.
What is the name of {name}'s pet?|What is {name}'s {pet} called?|What is the name of {name}'s {pet}?=>{name}'s {pet} is called {petname}.
What is {name}'s favorite color?|Which color does {name} like best?|What color does {name} like?=>{name}'s favorite color is {color}.
What is {name}'s favorite food?|What does {name} like to eat?|Which food does {name} like?=>{name} likes {food} best.
What is {name}'s hobby?|What does {name} do for fun?|What does {name} like to do?=>{name} likes {hobby}.
How old is {name}?|What is the age of {name}?|Can you tell me how old {name} is?=>{name} is {age} years old.
Who is {name}'s {kin}?|What is the name of {name}'s {kin}?=>{name}'s {kin} is {kinname}.
Who is {name}?|Tell me about {name}.|Do you know {name}?|Who is {name} in Thistlebrook?=>{name} is {job_a} and lives in {street}. {Pronoun} likes {hobby}.
"""
ASKS = [(line.split("=>")[0].split("|"), line.split("=>")[1]) for line in _ASKS.strip().splitlines()]

_PLACE_ASKS = """
Where is the {place}?|How do I find the {place}?|Where can I find the {place}?=>The {place} is {where}.
When does the {place} open?|At what time does the {place} open?|From when is the {place} open?=>The {place} opens at {opens}.
When does the {place} close?|At what time does the {place} close?|Until when is the {place} open?=>The {place} closes at {closes}.
What are the opening hours of the {place}?|When is the {place} open?|Tell me when the {place} is open.=>The {place} is open from {opens} to {closes}.
On which day is the {place} closed?|When is the {place} closed?|Is the {place} open every day?=>The {place} is closed on {closed}.
What can I find in the {place}?|What is in the {place}?|What do they have in the {place}?=>In the {place} you find {goods}.
Who works in the {place}?|Who works at the {place}?=>{workers}
"""
PLACE_ASKS = [(line.split("=>")[0].split("|"), line.split("=>")[1]) for line in _PLACE_ASKS.strip().splitlines()]

UNKNOWN_PERSON = ["Who is {n}?", "Where does {n} live?", "What does {n} do?", "What is {n}'s job?", "What is {n}'s favorite color?", "How old is {n}?",
                  "Do you know {n}?", "Tell me about {n}.", "What pet does {n} have?", "What is {n}'s hobby?"]
UNKNOWN_PLACE = ["Where is the {n}?", "When does the {n} open?", "What can I find in the {n}?", "Do you know the {n}?"]


def _values(person):
    kin, kinname = person["relative"].split()
    return dict(person, job_a=article(person["job"]), pet_a=article(person["pet"]), Pronoun=upper_first(person["pronoun"]), kin=kin, kinname=kinname)


def _pronoun(question, person):
    """The same question when it is clear whom it is about."""
    own, pronoun = {"she": ("her", "she"), "he": ("his", "he")}[person["pronoun"]]
    whom = {"she": "her", "he": "him"}[person["pronoun"]]
    question = question.replace(f"{person['name']}'s", own)
    if f"of {person['name']}" in question:
        return question
    for before in ("with ", "know ", "about "):
        question = question.replace(f"{before}{person['name']}", f"{before}{whom}")
    return question.replace(person["name"], pronoun)


def _workers(place):
    names = [person["name"] for person in RESIDENTS if person["work"] == place and person["job"] != "pupil"]
    if not names:
        return "I do not know who works there."
    return f"{listing(names)} {'works' if len(names) == 1 else 'work'} at the {place}."


def reverse_questions(rng):
    """From a fact back to the person."""
    person = rng.choice(RESIDENTS)
    which = rng.randrange(4)
    if which == 0 and person["job"] != "pupil":
        return rng.choice(("Who is the {job}?", "Who works as {job_a}?", "What is the name of the {job}?")).format(**_values(person)), f"{person['name']} is the {person['job']}."
    if which == 1:
        owners = [other["name"] for other in RESIDENTS if other["petname"] == person["petname"]]
        return rng.choice((f"Whose pet is {person['petname']}?", f"To whom does {person['petname']} belong?")), f"{person['petname']} belongs to {listing(owners)}."
    if which == 2:
        return rng.choice((f"Who is {person['petname']}?", f"What kind of animal is {person['petname']}?")), f"{person['petname']} is {article(person['pet'])}."
    people = [other["name"] for other in RESIDENTS if other["street"] == person["street"]]
    return rng.choice((f"Who lives in {person['street']}?", f"Which people live in {person['street']}?")), f"{listing(people)} {'lives' if len(people) == 1 else 'live'} in {person['street']}."


def village_talk(rng):
    """One to four turns about the village. Follow-up questions may say `she` or `he`."""
    which = rng.random()
    pairs = []
    if which < 0.55:
        person = rng.choice(RESIDENTS)
        for number, (asks, answer) in enumerate(rng.sample(ASKS, rng.choice((1, 2, 3, 4)))):
            values = _values(person)
            question = rng.choice(asks).format(**values)
            if number and rng.random() < 0.6:
                question = _pronoun(question, person)
            pairs.append((question, answer.format(**values)))
    elif which < 0.75:
        place = rng.choice(PLACES)
        for asks, answer in rng.sample(PLACE_ASKS, rng.choice((1, 2, 3))):
            values = dict(place, workers=_workers(place["place"]))
            question = rng.choice(asks).format(**values)
            if pairs and rng.random() < 0.4 and "the " + place["place"] in question and "in the" not in question and "at the" not in question:
                question = question.replace("the " + place["place"], "it")
            pairs.append((question, answer.format(**values)))
    elif which < 0.83:
        for asks, answer in rng.sample(GENERAL, rng.choice((1, 2))):
            pairs.append((rng.choice(asks), answer))
    elif which < 0.93:
        pairs = [reverse_questions(rng) for _ in range(rng.choice((1, 2)))]
    else:
        if rng.random() < 0.7:
            name = nonce(rng).capitalize()
            pairs.append((rng.choice(UNKNOWN_PERSON).format(n=name), f"I am sorry, I do not know {name}."))
        else:
            name = nonce(rng)
            pairs.append((rng.choice(UNKNOWN_PLACE).format(n=name), "I am sorry, I do not know that place."))
    return pairs


assert all(place["opens"] in NUMBERS and place["closes"] in NUMBERS for place in PLACES)

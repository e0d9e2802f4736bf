"""Word pools and small grammar helpers: the raw material of the starter model's world.

Everything the generator says is put together from the lists in this file, so the model's vocabulary is small and known.
Made-up words (`nonce`) are mixed in on purpose: a model that meets words it has never seen has to learn to copy from its
prompt, and copying is what fine-tuning on a small sample builds on.
"""

import re

WOMEN = """Mia Ana Lea Zoe Ida Eva Ruth Nina Vera Anna Emma Lily Rose Clara Alice Grace Ella Lucy Nora Olga Mary Jane Kate Sara
Julia Maya Lena Tara Dora Elsa Greta Hanna Irma Jill Kira Lola Mona Nell Pia Rita Sonia Tess Uma Wanda Yara Zelda Bella Cora
Daisy Edith Fiona Gina Holly Ivy Joan Karen Laura Megan Olive Paula Rosa Stella Tina Viola Wilma Amina Bianca Celia Elena Freya
Hilda Ines Jasmin Leila Marta Nadia Petra Ramona Selma Thea""".split()
MEN = """Tom Ben Max Sam Leo Jon Kim Ned Paul Otto Hugo Adam Alex Carl Dan Eric Finn Gus Hans Ian Jack Karl Liam Mark Nick Oscar
Pete Ralf Sean Tim Udo Vic Walt Yuri Zack Amir Bruno Cyril Diego Emil Felix Gary Henry Ivan Jacob Keith Lars Milo Noah Omar
Piotr Quinn Rudi Simon Theo Viktor Will Xavier Anton Boris Colin David Edgar Frank Georg Harry Isaac Joseph Kurt Louis Marco
Nils Oliver Peter Robert Stefan Tariq Uwe Vasco Wolf Yusuf""".split()
PEOPLE = WOMEN + MEN

THINGS = """ball book lamp boat kite drum hat cup box key map coat bell chair clock scarf basket ring shoe spoon table bag
blanket bottle bowl bracelet broom brush bucket button candle card carpet coin comb cushion desk doll fan flag flute fork glass
glove hammer helmet jacket jar kettle knife ladder lantern letter magnet mirror mug necklace needle notebook paddle painting pan
pen pencil phone piano picture pillow pipe plate postcard pot puzzle radio rope ruler sack saddle sail saw shell shirt shovel
sled soap sock sofa stamp stick stool string suitcase sweater teapot telescope tent ticket torch towel toy tray trumpet
umbrella vase violin wagon watch wheel whistle""".split()
COLORS = "red blue green yellow white black brown purple orange gray pink silver golden".split()
SIZES = "small big tiny large old new heavy light long short round broken pretty clean dirty wooden".split()
INDOOR = """kitchen school library station market bakery shop museum church office hospital attic cellar bathroom bedroom hall
garage barn stable hotel theater castle tower bank cafe workshop greenhouse classroom tent cabin mill""".split()
OUTDOOR = "garden park forest field harbor meadow square yard playground valley cave orchard vineyard village".split()
PLACES = INDOOR + OUTDOOR
STREETS = """Mill Lane,Hill Road,Park Street,River Road,Church Street,Oak Lane,Station Road,Garden Street,Bridge Street,Lake
Road,Elm Lane,King Street,Queen Street,Rose Lane,High Street,Farm Road,School Lane,North Road,South Street,Forest Road,Market
Street,Castle Road,Apple Lane,Harbor Street""".replace("\n", " ").split(",")
TOWNS = """Oakham Brightwell Elmford Stonebury Larkdale Ferndale Ashby Milltown Redhill Lakewood Northgate Seaview Greenfield
Riverton Applewood Foxley Harwick Swanmoor""".split()
ANIMALS = """cat dog horse bird fish rabbit fox goat duck mouse cow pig sheep hen goose frog bear wolf deer squirrel owl eagle
parrot turtle snake lion tiger elephant monkey donkey swan hedgehog bee spider butterfly crow otter badger penguin camel""".split()
PETS = "cat dog rabbit parrot hamster turtle pony goldfish duck goat mouse hen".split()
PET_NAMES = """Biscuit Pepper Ginger Misty Shadow Patch Sunny Buttons Coco Fluffy Pebble Snowy Tiger Whiskers Rusty Bramble
Clover Domino Freckle Honey Jasper Lucky Maple Nutmeg Oreo Pickle Socks Toffee Velvet Waffle Ziggy Muffin""".split()
FOODS = """bread cheese soup rice cake honey butter jam milk tea coffee juice water pasta pizza salad pie chocolate porridge
yogurt fish ham toast pudding""".split()
FRUITS = "apple pear plum cherry banana orange lemon peach grape melon strawberry mango".split()
VEGETABLES = "carrot potato onion tomato cabbage bean pea pumpkin leek beet cucumber radish".split()
FLOWERS = "rose tulip daisy lily sunflower violet poppy".split()
TREES = "oak pine birch willow maple elm".split()
CLOTHES = "hat coat scarf shirt sweater jacket glove sock shoe dress skirt cap belt".split()
FURNITURE = "table chair sofa bed desk shelf stool cupboard".split()
TOOLS = "hammer saw shovel ladder broom needle knife brush rake axe".split()
VEHICLES = "car bus train boat bicycle truck tram ship plane wagon".split()
INSTRUMENTS = "drum flute piano violin trumpet guitar".split()
ROOMS = "kitchen bedroom bathroom hall attic cellar".split()
JOBS = """baker teacher farmer doctor nurse painter singer driver cook gardener tailor carpenter fisher writer dancer pilot
dentist mechanic plumber waiter librarian postman sailor smith shepherd potter barber florist clown guard judge""".split()
HOBBIES = """painting,fishing,singing,dancing,reading,swimming,cooking,running,gardening,sewing,chess,football,tennis,skating,
baking,hiking,sailing,drawing,knitting""".replace("\n", "").split(",")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SEASONS = "spring summer autumn winter".split()
WEATHER = "sunny rainy cloudy windy snowy foggy stormy warm cold hot".split()
FEELINGS = "happy sad tired angry hungry thirsty sick bored nervous proud lonely excited scared".split()
MATERIALS = "wood paper glass metal cotton wool leather stone clay plastic silk gold".split()
LANGUAGES = "English French Spanish German Italian Greek Polish Turkish Dutch Danish".split()
RELATIVES = [("sister", 0), ("brother", 1), ("aunt", 0), ("uncle", 1), ("cousin", 2), ("mother", 0), ("father", 1), ("friend", 2),
             ("neighbor", 2), ("grandmother", 0), ("grandfather", 1)]
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty""".split()

IRREGULAR = {"mouse": "mice", "goose": "geese", "fish": "fish", "sheep": "sheep", "deer": "deer", "wolf": "wolves", "knife": "knives",
             "scarf": "scarves", "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth", "leaf": "leaves",
             "shelf": "shelves", "ox": "oxen", "person": "people", "potato": "potatoes", "tomato": "tomatoes", "loaf": "loaves",
             "half": "halves", "life": "lives", "wife": "wives", "thief": "thieves"}


def plural(word):
    """The plural of a noun, regular or not."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if re.search(r"(s|x|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def article(words):
    """`a` or `an` in front of a word or phrase."""
    silent = words.lower().startswith("hour")
    vowel = words[0].lower() in "aeiou" and not re.match(r"(uni|use|one\b|eu|ukul)", words.lower())
    return ("an " if vowel or silent else "a ") + words


def upper_first(text):
    return text[:1].upper() + text[1:]


def lower_first(text):
    return text[:1].lower() + text[1:]


def listing(items, last="and"):
    """Join as people do: `a, b and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" {last} " + items[-1]


_ONSETS = "b bl br c ch d dr f fl g gl gr h j k l m n p pl pr r s sh sk sl st t tr v w y z qu th".split()
_VOWELS = "a e i o u a e i o u ai ee oo ou ie".split()
_CODAS = ["", "", "", "", "n", "r", "l", "m", "s", "t", "k", "ck", "nd", "x", "p", "b", "g", "ff", "lt", "rn", "sh"]


def nonce(rng):
    """A made-up word of one to three syllables, in lower case: `blimo`, `tarvick`."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(rng.choice((1, 1, 2, 2, 2, 2)))) + rng.choice(
        ("", "", "", "a", "o", "y"))


POOLS = {"thing": THINGS, "color": COLORS, "size": SIZES, "place": PLACES, "street": STREETS, "town": TOWNS, "animal": ANIMALS,
         "pet": PETS, "petname": PET_NAMES, "food": FOODS, "fruit": FRUITS, "vegetable": VEGETABLES, "job": JOBS, "hobby": HOBBIES,
         "day": DAYS, "month": MONTHS, "season": SEASONS, "weather": WEATHER, "feeling": FEELINGS, "material": MATERIALS,
         "language": LANGUAGES, "flower": FLOWERS, "instrument": INSTRUMENTS, "clothes": CLOTHES, "vehicle": VEHICLES, "number": NUMBERS[2:13]}

# How often a slot of each kind is filled with a made-up word instead.
NONCE_RATE = {"thing": 0.22, "place": 0.15, "town": 0.35, "animal": 0.15, "petname": 0.35, "food": 0.12, "job": 0.08, "color": 0.08,
              "hobby": 0.06, "flower": 0.1, "street": 0.25, "person": 0.3}


class Draw:
    """Draws slot values without repeating any, so that a question about one of them has one answer."""

    def __init__(self, rng, people=None):
        """With `people`, names come from that list alone and no word is made up."""
        self.rng, self.used, self.people = rng, set(), people

    def take(self, kind):
        for _ in range(50):
            value = self._one(kind)
            if value.lower() not in self.used:
                break
        self.used.add(value.lower())
        return value

    def _one(self, kind):
        rng = self.rng
        if kind == "person" and self.people:
            return rng.choice(self.people)
        if kind == "person":
            return nonce(rng).capitalize() if rng.random() < NONCE_RATE["person"] else rng.choice(PEOPLE)
        if kind == "hour":
            return rng.choice(NUMBERS[1:13])
        if kind == "price":
            return str(rng.randint(2, 99))
        if not self.people and rng.random() < NONCE_RATE.get(kind, 0):
            word = nonce(rng)
            return {"street": f"{word.capitalize()} {rng.choice(('Lane', 'Road', 'Street'))}", "town": word.capitalize(),
                    "petname": word.capitalize()}.get(kind, word)
        return rng.choice(POOLS[kind])


_SLOT = re.compile(r"\[(\w+)(?:\.(\w+))?\]")


def fill(template, values):
    """Fill `[slot]`, with `[slot.a]` for the article in front, `[slot.s]` for the plural; the first letter becomes a capital."""

    def one(match):
        value = values[match[1]]
        return {None: value, "a": article(value), "s": plural(value)}[match[2]]

    return upper_first(_SLOT.sub(one, template))

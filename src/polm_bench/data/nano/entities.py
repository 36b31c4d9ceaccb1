"""People, things, places and words of the nano world, in three disjoint splits.

A row of a split names only that split's entities, so a test prompt never occurs in training. Country facts are split in `countries.py`.
"""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test"]
Pool = dict[str, tuple[str, ...]]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def _pool(train: str, validation: str, test: str) -> Pool:
    return {"train": tuple(train.split()), "validation": tuple(validation.split()), "test": tuple(test.split())}


WOMEN = _pool(
    "Anna Bella Clara Dora Emma Fiona Grace Hanna Ida Julia Kate Laura Maria Nina Olga Paula Rosa Sara Tina Vera",
    "Wanda Yara Zoe Lena",
    "Alice Bonnie Cora Diana Elsa Flora Greta Helen Irene Judy Karin Lucy Mona Nora Petra Ruth Sonia Tessa Ursula Wilma",
)
MEN = _pool(
    "Adam Ben Carl David Eric Frank George Henry Ivan Jack Karl Leo Mark Nick Oscar Paul Ralph Sam Tom Victor",
    "Walter Yuri Zack Luke",
    "Alan Boris Conrad Dennis Edgar Felix Gordon Hugo Ian Jacob Kevin Louis Martin Nathan Otto Peter Rupert Simon Tim Ulrich",
)
THINGS = _pool(
    "apples books coins pens cards stamps shells balls cups eggs stones cookies flowers buttons tickets stickers boxes keys plates ribbons",
    "candles pencils leaves bottles",
    "pears letters beads marbles spoons badges nuts hats lemons maps toys feathers muffins photos socks bricks plums posters crayons baskets",
)
"""Countable things, in the plural."""

TOPICS = _pool(
    "hotel film book restaurant museum concert garden beach cafe park phone camera train lamp jacket song game school market bakery "
    "hostel novel theater library ferry chair laptop bicycle soup pizza cake tea coffee boat tent kitchen bedroom tower bridge castle "
    "village city island forest mountain lake river zoo circus festival",
    "hospital airport sofa radio sauce salad poem tour",
    "cinema musical diner gallery opera meadow harbor tavern plaza tablet printer bus monitor coat album puzzle college shop brewery inn "
    "ballet archive tram desk keyboard scooter stew burger pie juice cocoa canoe cabin bathroom attic palace cellar fortress "
    "town suburb bay jungle canyon pond stream aquarium parade fair workshop sauna stadium clinic academy arcade balcony blanket "
    "broth carpet cathedral chapel cottage curry cushion drama dress elevator exhibition farmhouse fountain guesthouse gym handbag "
    "headset jeep kettle lecture lounge magazine mall noodle oven pancake pudding pub razor resort salon sandwich sculpture shower sneaker speaker spa steak studio subway sundae taxi teapot terrace toaster trail umbrella vest video waffle wardrobe website winery yacht",
)
WORDS = _pool(
    "river stone light green table winter music window yellow garden summer paper silver morning bridge cloud horse water bread circle "
    "mountain letter forest dog cat bird house moon night road salt tree",
    "ocean piano pocket thunder sugar lightning",
    "spring lemonade dawn basil rabbit engine fog shadow barn zipper acorn dragon pepper rocket sailor tiger wagon velvet harvest "
    "oyster pillow needle ink quilt saddle temple violin wheel falcon helmet",
)
"""Words that an instruction asks for."""

VERBS = _pool(
    "walk talk play help call open close visit clean paint cook wash watch jump climb push pull fix pack lift count move turn start end",
    "carry answer bake smile",
    "load guard borrow mention repair gather polish inspect deliver remember follow present design discover enter check knock collect "
    "notice prepare sketch admire salute measure repeat wrap",
)
"""Verbs with a regular past tense."""

PLACES = _pool(
    "park school market garden beach station library bridge river village",
    "airfield valley",
    "port depot cave ruin square cliff hill farm mill gate",
)
TITLES = _pool(
    "lamp river garden clock bridge letter storm island mirror door",
    "lighthouse snowman",
    "lantern meadow orchard compass tunnel parcel blizzard lagoon statue anchor",
)
COLOURS = _pool("red blue green white black golden", "copper", "purple violet orange brown gray pink")


def things(split: Split) -> tuple[str, ...]:
    """Plural names of things that can be counted."""
    return THINGS[split]


def people(split: Split) -> tuple[tuple[str, str], ...]:
    """Names with their pronouns."""
    return tuple((name, "she") for name in WOMEN[split]) + tuple((name, "he") for name in MEN[split])


def single(thing: str) -> str:
    """Singular of one of `THINGS`."""
    return {"leaves": "leaf", "boxes": "box"}.get(thing, thing.removesuffix("s"))


def title(rest: str) -> str:
    """The text with a capital first letter, the others as they are."""
    return rest[:1].upper() + rest[1:]

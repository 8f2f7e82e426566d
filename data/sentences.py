"""Random English sentences from a list of common words and a small grammar.

The words are chosen so that each of the 39 phones of `data.phones` occurs often enough to be learnt. Sentences are
grammatical, but need not make sense.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.dataset import BadInput

WORDS_LEAST, WORDS_MOST = 4, 12


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((base, past) for base, _, past in (pair.partition("/") for pair in text.split()))


NAMES = _words(
    """
    Adam Alice Andrew Anna Arthur Beth Betty Carl Charles Claire David Doyle Edith Emma Frank Gary George Gordon Grace
    Greg Harry Helen Hugh Jack Jane Jenny Joyce Julia Katie Keith Kitty Laura Lily Lucy Martha Mary Matthew Megan
    Natalie Nathan Oscar Patty Paul Peggy Peter Rachel Rita Roy Ruth Sarah Simon Sophie Thomas Troy Walter
    """
)
PEOPLE = _words(
    """
    actor aunt author baker barber boy brother butcher captain cousin dancer daughter doctor driver farmer father girl
    grandson guard guest guide judge king lady lawyer mayor mother neighbour nurse painter pilot poet priest prince
    queen sailor singer sister soldier student teacher thief uncle waiter worker writer
    """
)
THINGS = _words(
    """
    apple bag ball basket bath bed beetle bell bird boat book boot bottle bowl box bridge brush bucket bush butter
    button cable cake camera candle carpet cat chain chair cheese cherry chicken church clock cloth cloud coat coffee
    coin cottage cow cup curtain cushion desk dish dog door drawer drum duck egg engine envelope feather fence field
    fire flag flower fork garage garden gate glove goat guitar hammer hat heater hook horse house island jacket jar
    journey jug juice kettle key kitchen ladder lake lamp leaf letter lettuce lion magazine map meadow measure melon
    mirror moon motor mountain mouth mushroom newspaper noise oak onion orange oven owl oyster package page palace paper
    party path pen pencil photo piano picture pie pillow pitcher plate pocket point poison pool potato present puzzle
    rabbit radio ring river road roof room rope ruby sandwich shadow ship shirt shoe shovel sofa song soup spoon stone
    story stove sweater table tent thing thorn ticket toilet tomato tooth towel tower town toy train treasure tree truck
    valley vase village vision voice wagon wall watch water wheel whistle window yacht yard zebra zoo
    """
)
PLACES = _words(
    """
    bank beach castle city coast corner cottage court factory forest garden hall harbour hotel house kitchen library
    market museum office park river school shop square station street theatre tower valley village water yard
    """
)
ADJECTIVES = _words(
    """
    ancient angry bad beautiful better big bitter black blue bright broad brown busy calm cheap clean clever cloudy cold
    common cool curious dark deep dirty dull early easy empty enormous faithful famous fat fresh funny gentle giant glad
    gloomy golden good great greedy green grey happy heavy honest huge little long loud lovely lucky narrow new noisy
    old other pale pink pleasant pretty proud purple quick quiet rare rich rotten rough round royal sharp short shy
    silent silver slow small smooth soft spoilt square strange strong sweet tall thick thin thirsty tiny ugly unusual
    usual warm weak wet white wide wild wise wooden woollen wrong yellow young
    """
)
# Base form and past tense; other forms are regular.
TRANSITIVE = _pairs(
    """
    admire/admired answer/answered avoid/avoided bring/brought buy/bought carry/carried catch/caught change/changed
    choose/chose clean/cleaned collect/collected cook/cooked cover/covered describe/described destroy/destroyed
    draw/drew drop/dropped employ/employed enjoy/enjoyed examine/examined find/found finish/finished fix/fixed
    follow/followed forget/forgot gather/gathered get/got give/gave greet/greeted guard/guarded hear/heard help/helped
    hide/hid hold/held join/joined keep/kept leave/left lift/lifted like/liked lose/lost love/loved measure/measured
    move/moved need/needed notice/noticed offer/offered open/opened paint/painted praise/praised pull/pulled push/pushed
    reach/reached remember/remembered repair/repaired save/saved search/searched see/saw sell/sold show/showed
    steal/stole study/studied take/took teach/taught throw/threw touch/touched treat/treated use/used visit/visited
    want/wanted wash/washed watch/watched
    """
)
INTRANSITIVE = _pairs(
    """
    argue/argued arrive/arrived boil/boiled breathe/breathed cough/coughed cry/cried dance/danced disappear/disappeared
    dream/dreamed eat/ate fall/fell fly/flew go/went grow/grew hurry/hurried jump/jumped laugh/laughed lie/lay
    listen/listened look/looked play/played rest/rested return/returned rush/rushed shout/shouted sing/sang sit/sat
    sleep/slept smile/smiled speak/spoke stand/stood stay/stayed swim/swam talk/talked think/thought vanish/vanished
    wait/waited wake/woke walk/walked whisper/whispered work/worked worry/worried yawn/yawned
    """
)
ADVERBS = _words(
    """
    again badly carefully early easily gladly happily heavily loudly nearby nicely often politely proudly quickly
    quietly rarely sadly slowly smoothly softly suddenly together usually warmly wildly wisely
    """
)
TIMES = (
    "a little later",
    "again and again",
    "at night",
    "at the party",
    "before breakfast",
    "each month",
    "every evening",
    "every Thursday",
    "in August",
    "in June",
    "in the city",
    "most of the time",
    "on Saturday",
    "this week",
    "today",
    "without a pause",
)
PREPOSITIONS = _words(
    """
    above across along around behind below beside beyond by from in inside near outside past through toward under with
    without
    """
)
DETERMINERS = _words("a another each every her his its my our that the the the the their this your")
PLURAL_DETERMINERS = _words("all few her his many most my our several some the the their these those your")
NUMBERS = _words("two three four five six seven eight nine ten eleven twelve thirteen twenty thirty forty fifty")
CONJUNCTIONS = _words("although because before if since unless until when while")
PRONOUNS = _words("he she")
PLURAL_PRONOUNS = _words("I they we you")
MODALS = _words("can could may might must should will would")
QUESTIONS = _words("how when where why")


def sentences(count: int, seed: int) -> list[str]:
    """Draw `count` different sentences of four to twelve words, with capitals and punctuation.

    With the same seed, a longer list begins with a shorter one.

    Raises:
        BadInput: `count` isn't from 1 to 1,000,000.
    """
    if not 1 <= count <= 1_000_000:
        raise BadInput(f"sentences: found a count of {count}, expected 1 to 1,000,000")
    grammar = _Grammar(np.random.default_rng(seed))
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        text = grammar.sentence()
        if WORDS_LEAST <= len(text.split()) <= WORDS_MOST:
            drawn[text] = None
    return list(drawn)


def vocabulary() -> tuple[str, ...]:
    """All base forms that occur in sentences, in alphabetical order."""
    groups = (NAMES, PEOPLE, THINGS, PLACES, ADJECTIVES, ADVERBS, TIMES, PREPOSITIONS, DETERMINERS, PLURAL_DETERMINERS)
    groups += (NUMBERS, CONJUNCTIONS, PRONOUNS, PLURAL_PRONOUNS, MODALS, QUESTIONS)
    verbs = {pair[0] for pair in TRANSITIVE + INTRANSITIVE}
    return tuple(sorted(verbs | {word for group in groups for entry in group for word in entry.split()}))


def third_person(verb: str) -> str:
    """The third person of a regular verb, or the plural of a regular noun: watches, carries, plays."""
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ies"
    if verb == "go" or verb.endswith(("s", "x", "ch", "sh", "z")):
        return verb + "es"
    return verb + "s"


def progressive(verb: str) -> str:
    """The -ing form: making, lying, sitting, boiling."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    if verb == "forget" or re.fullmatch("[^aeiou]+[aeiou][^aeiouwxy]", verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


PLURALS = {"leaf": "leaves", "potato": "potatoes", "thief": "thieves", "tomato": "tomatoes", "tooth": "teeth"}


def plural(noun: str) -> str:
    """The plural of one of the nouns above."""
    return PLURALS.get(noun) or third_person(noun)


class _Grammar:
    """Draws sentences, phrase by phrase."""

    def __init__(self, random: np.random.Generator):
        self.random = random

    def sentence(self) -> str:
        patterns = (
            (5, self.statement),
            (2, self.question),
            (1, lambda: f"{self.statement()}, and {self.clause()}"),
            (2, lambda: f"{self.pick(CONJUNCTIONS)} {self.clause()}, {self.clause()}"),
            (1, lambda: f"there {self.existence()} {self.place()}"),
            (1, lambda: f"the {self.pick(PEOPLE)} {self.reporting_verb()} that {self.clause()}"),
        )
        text = self.weighted(patterns)()
        text = text[0].upper() + text[1:]
        return text if text.endswith("?") else text + "."

    def statement(self) -> str:
        return self.clause() + self.maybe(0.5, self.ending)

    def clause(self) -> str:
        form = self.weighted(((4, "past"), (2, "singular"), (2, "plural"), (2, "progressive"), (1, "modal"), (1, "be")))
        if form == "past":
            return f"{self.subject()} {self.predicate(1)}"
        if form == "singular":
            return f"{self.singular_subject()} {self.predicate(0, third_person)}"
        if form == "plural":
            return f"{self.plural_subject()} {self.predicate(0)}"
        if form == "progressive":
            return f"{self.singular_subject()} {self.pick(('is', 'was'))} {self.predicate(0, progressive)}"
        if form == "modal":
            return f"{self.subject()} {self.pick(MODALS)} {self.maybe(0.2, lambda: 'not ')}{self.predicate(0)}"
        return f"{self.noun_phrase(plain=True)} {self.pick(('is', 'was'))} {self.adjective_phrase()}"

    def question(self) -> str:
        start = self.pick(("", *QUESTIONS))
        verb = self.pick(("did", "will", "does"))
        subject = self.singular_subject() if verb == "does" else self.subject()
        return f"{start} {verb} {subject} {self.predicate(0)}?".strip()

    def predicate(self, tense: int, form: Callable[[str], str] = str) -> str:
        if self.random.random() < 0.6:
            return f"{form(self.pick(TRANSITIVE)[tense])} {self.object()}"
        adverb = self.maybe(0.5, lambda: " " + self.pick(ADVERBS))
        return f"{form(self.pick(INTRANSITIVE)[tense])}{adverb}{self.maybe(0.5, lambda: ' ' + self.place())}"

    def subject(self) -> str:
        return self.weighted(((3, self.singular_subject), (1, self.plural_subject)))()

    def singular_subject(self) -> str:
        return self.weighted(
            ((3, lambda: self.noun_phrase(PEOPLE)), (3, lambda: self.pick(NAMES)), (1, lambda: self.pick(PRONOUNS)))
        )()

    def plural_subject(self) -> str:
        return self.weighted(
            (
                (2, lambda: f"{self.pick(PLURAL_DETERMINERS)} {plural(self.pick(PEOPLE))}"),
                (1, lambda: f"{self.pick(NAMES)} and {self.pick(NAMES)}"),
                (1, lambda: self.pick(PLURAL_PRONOUNS)),
            )
        )()

    def object(self) -> str:
        if self.random.random() < 0.25:
            determiner = self.pick(PLURAL_DETERMINERS + NUMBERS)
            return f"{determiner} {self.maybe(0.3, lambda: self.pick(ADJECTIVES) + ' ')}{plural(self.pick(THINGS))}"
        return self.noun_phrase()

    def noun_phrase(self, nouns: tuple[str, ...] = THINGS, *, plain: bool = False) -> str:
        noun = self.maybe(0 if plain else 0.4, lambda: self.pick(ADJECTIVES) + " ") + self.pick(nouns)
        determiner = self.pick(DETERMINERS)
        return f"{'an' if determiner == 'a' and _starts_with_vowel(noun) else determiner} {noun}"

    def adjective_phrase(self) -> str:
        return self.maybe(0.4, lambda: self.pick(("very", "too", "rather", "never")) + " ") + self.pick(ADJECTIVES)

    def place(self) -> str:
        return (
            f"{self.pick(PREPOSITIONS)} the {self.maybe(0.3, lambda: self.pick(ADJECTIVES) + ' ')}{self.pick(PLACES)}"
        )

    def existence(self) -> str:
        if self.random.random() < 0.5:
            return f"{self.pick(('are', 'were'))} {self.pick(NUMBERS)} {plural(self.pick(THINGS))}"
        return f"{self.pick(('is', 'was'))} {self.pick(('no', 'one', 'only one'))} {self.pick(THINGS)}"

    def reporting_verb(self) -> str:
        return self.pick(("believed", "feared", "hoped", "knew", "said", "thought"))

    def ending(self) -> str:
        return " " + self.pick(TIMES)

    def maybe(self, chance: float, phrase: Callable[[], str]) -> str:
        return phrase() if self.random.random() < chance else ""

    def weighted(self, choices: Sequence[tuple[float, Any]]) -> Any:
        weights = np.array([weight for weight, _ in choices], float)
        return choices[int(self.random.choice(len(choices), p=weights / weights.sum()))][1]

    def pick(self, words: Sequence[Any]) -> Any:
        return words[int(self.random.integers(len(words)))]


def _starts_with_vowel(word: str) -> bool:
    return (word[0] in "aeiou" and not word.startswith("usual")) or word.startswith("honest")

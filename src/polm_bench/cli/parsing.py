"""How words are read: a mistake is told the way the rest of polm-bench does; and the arguments that several commands have."""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path
from typing import NoReturn

MISTAKE = 2
FORMATS = ("md", "csv", "latex", "html", "json")


class Parser(argparse.ArgumentParser):
    """Says a mistake the way the rest of polm-bench does: what was asked, what there is, no usage dump."""

    def error(self, message: str) -> NoReturn:
        found = re.match(r"argument (.+?): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            known = [name.strip("' ") for name in found[3].split(",")]
            near = difflib.get_close_matches(found[2], known, n=2, cutoff=0.5)
            there = f"Did you mean {' or '.join(near)}?" if near else f"There is: {', '.join(known)}."
            message = f"no {found[1]} named '{found[2]}'. {there}"
        self.exit(MISTAKE, f"error: {message}{'' if message.endswith(('.', '?')) else '.'} See '{self.prog} --help'.\n")


def add_records(made: Parser, usual: str = "POLM_HOME/records") -> None:
    """`--records`, for commands that read records."""
    made.add_argument("--records", type=Path, metavar="FOLDER", help=f"read records from here ({usual})")


def add_json(made: Parser) -> None:
    """`--json`, for commands that have one other form."""
    made.add_argument("--json", action="store_true", help="JSON on stdout")


def add_format(made: Parser, formats: tuple[str, ...] = FORMATS, text: str = "print it as this instead") -> None:
    """`--format`, None where it is not given, and `--json` for one of its values."""
    made.add_argument("--format", choices=formats, help=text)
    made.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")


def count(text: str) -> int:
    """A number of things, 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no count: give 1 or more")
    return int(text)


def port(text: str) -> int:
    """A port of this machine."""
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: give a number from 1 to 65535")
    return int(text)

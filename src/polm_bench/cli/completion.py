"""Tab completion: a script for each shell, which asks `polm-bench __complete` for what can follow.

Hydra's own script takes the first word after the program for an override, so it can't serve a program with commands.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence

from polm_bench.cli.catalogue import KINDS, groups, numbers
from polm_bench.errors import PolmError
from polm_bench.paths import home
from polm_bench.settings import USUAL, options

# Bash splits words at "=" and ":", so it must be given only what follows the last of them.
BASH = """
_polm_bench() {
  local line="${COMP_LINE:0:$COMP_POINT}" typed cut
  typed="${line##*[[:space:]]}"
  cut=""
  case "$typed" in *[=:]*) cut="${typed%"${typed##*[=:]}"}" ;; esac
  mapfile -t COMPREPLY < <(polm-bench __complete $line$([[ "$line" == *[[:space:]] ]] && echo " ''") 2>/dev/null)
  COMPREPLY=("${COMPREPLY[@]#"$cut"}")
  [[ ${#COMPREPLY[@]} -gt 0 && "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
complete -F _polm_bench polm-bench
"""

ZSH = """
_polm_bench() {
  local -a found
  found=("${(@f)$(polm-bench __complete "${(@)words[1,CURRENT]}" 2>/dev/null)}")
  compadd -Q -S '' -- $found
}
compdef _polm_bench polm-bench
"""

FISH = """
complete -c polm-bench -f -a '(polm-bench __complete (commandline -opc) (commandline -ct) 2>/dev/null)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completion(arguments: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    print(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """The completion script of a shell."""
    return SCRIPTS[shell].strip()


def candidates(words: Sequence[str]) -> list[str]:
    """What can stand in place of the last of `words` (the program's name is the first; the last may be empty)."""
    *before, typed = words if len(words) > 1 else [*words, ""]
    typed = "" if typed == "''" else typed
    try:
        found = list(_candidates(before[1:], typed))
    except PolmError:
        return []
    return sorted({word for word in found if word.startswith(typed) and word not in before})


def _candidates(before: Sequence[str], typed: str) -> Iterator[str]:
    commands = _commands()
    if not before:
        yield from [*commands, "--help", "--version"]
        return
    command = commands.get(before[0])
    if command is None:
        return
    if command.prog.endswith((" run", " plan", " tune")):
        yield from _overrides(before[1:], typed)
    if command.prog.endswith(" show"):
        yield from [*options("recipe"), *_records()]
    if command.prog.endswith(" compare"):
        yield from _records()
    if command.prog.endswith((" table", " report")) and not before[1:]:
        yield from options("table")
    if command.prog.endswith(" table") and not before[1:]:
        yield from options("published")
    for action in command._actions:
        if typed.startswith("-"):
            yield from action.option_strings
        elif action.choices and not action.option_strings:
            yield from map(str, action.choices)
    if command.prog.endswith(" ls"):
        yield from KINDS


def _overrides(before: Sequence[str], typed: str) -> Iterator[str]:
    plus = "+" if typed.startswith("+") else ""
    group, equals, value = typed.removeprefix("+").partition("=")
    if equals:
        listed = value.rpartition(",")[0]
        start = f"{plus}{group}={listed}," if listed else f"{plus}{group}="
        if group in groups():
            yield from (f"{start}{name}" for name in options(group) if name not in listed.split(","))
        return
    if "." in group:
        chosen = group.partition(".")[0]
        yield from (f"{row['setting']}=" for row in numbers(chosen, _chosen(chosen, before)))
        return
    yield "+recipe="
    yield from (f"{name}=" for name in [*groups(), "seed"] if name != "recipe")
    if group and group in groups():
        yield f"{group}."
    yield from ("-m", "--json", "--cfg", "--help") if typed.startswith("-") else ()


def _chosen(group: str, before: Iterable[str]) -> str:
    """The value chosen on the line for a group, else the usual one."""
    for word in before:
        name, _, value = word.removeprefix("+").partition("=")
        if name == group and value:
            return value.partition(",")[0]
    return USUAL.get(group, "")


def _records() -> list[str]:
    return [path.stem for path in (home() / "records").glob("*.json")]


def _commands() -> dict[str, argparse.ArgumentParser]:
    from polm_bench.cli.arguments import parser

    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}

"""Arguments of every command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench import __version__
from polm_bench.cli.catalogue import KINDS
from polm_bench.cli.examples import EXAMPLES
from polm_bench.cli.parsing import Parser, add_format, add_json, add_records, count, port

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]

CELL_HELP = """

Overrides choose a value of each group (model= data= budget= suite= launch= track=) and a
recipe (+recipe=), and change single numbers (recipe.optim.lr=1.0e-6, seed=1).
`polm-bench ls` lists the values."""
RUN_HELP = " Hydra's other options (--cfg job, --config-dir FOLDER) work too."
PLAN_HELP = """ Of a matrix (-m) the stages are counted by kind:
how many are shared by several cells, done and missing."""

TUNE_HELP = """

The recipe's `search:` names the settings and their values. tune.trials=N (8) trials are run;
tune.sampler=tpe|random|grid (tpe) and tune.seed=N (0) say which, and the first has the
recipe's own numbers. The suite is put to the best one only. A killed study goes on."""

COMPARE_HELP = """

One screen shows the settings that differ, the paired differences of the headline scores, and
a few of the items that changed."""

ADVICE_HELP = """

Methods are ranked by --by, or by the score that most of those which fit claim to better. In
--keep, SCORE is a task, task/metric, or `retention` (bits per byte of held-out text), and
CHANGE what may be lost at worst, below zero, whichever way the score counts."""

VARIANCE_HELP = """

Decoding is told from records of several suite.seed, the seed that answers are drawn with:
models are trained once and evaluated again."""


def parser() -> Parser:
    """The whole command line. A command is the function of its name in the module of cli/ that it is added with."""
    top = Parser(
        prog="polm-bench",
        description="Compare post-training methods of language models: one table, one suite, one cost ledger.",
        epilog=f"examples:{EXAMPLES['']}\n\nState lives under POLM_HOME (default: .polm in the working folder).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"polm-bench {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=Parser)
    _add_cells(commands)
    _add_listing(commands)
    _add_table(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_advise(commands)
    _add_statistics(commands)
    _add_upkeep(commands)
    _add_drill(commands)
    _add_bench(commands)
    return top


def _add(commands: Commands, name: str, module: str, text: str, more: str = "") -> Parser:
    made = commands.add_parser(
        name,
        help=text,
        description=f"{text[:1].upper()}{text[1:]}.{more}",
        epilog=f"examples:{EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.set_defaults(module=module)
    return made


def _add_cells(commands: Commands) -> None:
    """Commands whose words are Hydra's, who reads them; these arguments are only for their help."""
    for name, module, text, more in (
        ("run", "cells", "plan a cell, run what is missing, evaluate, write its record", CELL_HELP + RUN_HELP),
        (
            "plan",
            "plans",
            "show the stages to run, what is done and what it may take; runs nothing",
            CELL_HELP + PLAN_HELP,
        ),
        ("tune", "tuning", "try a recipe's settings, choose on validation rows, test the best once", TUNE_HELP),
    ):
        made = _add(commands, name, module, text, more)
        made.add_argument("overrides", nargs="*", metavar="group=value", help="`recipe=dpo` means `+recipe=dpo`")
        if name != "tune":
            several = "a cell of each combination of several values: +recipe=dpo,simpo seed=0,1"
            made.add_argument("-m", "--multirun", action="store_true", help=several)
        add_json(made)


def _add_listing(commands: Commands) -> None:
    ls = _add(commands, "ls", "listing", "list what there is")
    ls.add_argument("kind", nargs="?", choices=KINDS, metavar="kind", help=", ".join(KINDS))
    add_format(ls, ("plain", "md", "json"), "plain is what fits a line; md has more columns, json all")
    add_records(ls)
    show = _add(commands, "show", "listing", "show one recipe or one record")
    show.add_argument("name", help="a recipe, or a record's id or the beginning of it")
    add_records(show)
    add_json(show)


def _add_table(commands: Commands) -> None:
    made = _add(commands, "table", "tables", "build a table of conf/table/ from records")
    made.add_argument("name", help="a table of conf/table/; with --against published also one of conf/published/")
    made.add_argument("--run", action="store_true", help="run the cells that have no record yet")
    made.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="with --run: N cells at a time, which divide the cores"
    )
    made.add_argument(
        "--launch",
        nargs="+",
        default=(),
        metavar="WORD",
        help="with --run: who runs the cells: --launch slurm launch.partition=gpu",
    )
    made.add_argument("--save", action="store_true", help="write results/NAME/")
    made.add_argument(
        "--at",
        metavar="COST",
        help="the same records at one cost: tokens=N, flops=N, seconds=N, memory=BYTES or bytes=N",
    )
    made.add_argument(
        "--against",
        metavar="FIGURES",
        help="'published': compare with the figures of conf/published/, of this table's cells or of the publication NAME; or a YAML file of such",
    )
    add_format(made)
    add_records(made, "those published with the table, else POLM_HOME/records")


def _add_report(commands: Commands) -> None:
    text = "write a table as one HTML page: sort, filter, quality against any cost, effects, items"
    made = _add(commands, "report", "report", text)
    made.add_argument("name", help="a table of conf/table/")
    made.add_argument("--out", type=Path, metavar="FILE", help="where to write it (POLM_HOME/reports/NAME.html)")
    made.add_argument("--open", action="store_true", help="open it in the browser")
    made.add_argument("--track", action="store_true", help="log it and the table's plot to MLflow")
    add_records(made, "those published with the table, else POLM_HOME/records")
    add_json(made)


def _add_compare(commands: Commands) -> None:
    made = _add(commands, "compare", "tables", "say why two records differ", COMPARE_HELP)
    made.add_argument("first", help="a record's id, or the beginning of it")
    made.add_argument("second", help="the other one; differences are the second's minus the first's")
    made.add_argument(
        "--all", action="store_true", help="every setting and score, the whole environment, whole outputs"
    )
    made.add_argument(
        "--items",
        type=count,
        default=3,
        metavar="N",
        help="how many of the items that changed (3; --all: of each score)",
    )
    add_records(made)
    add_json(made)


def _add_advise(commands: Commands) -> None:
    text = "say which methods of the records fit what you have, and which cell to run next"
    made = _add(commands, "advise", "advise", text, ADVICE_HELP)
    made.add_argument(
        "--needs", action="append", metavar="WORD", help="a paradigm, a family or a word of its name, or AXIS=LABEL"
    )
    made.add_argument("--by", metavar="SCORE", help="the score to be best at: a task, or task/metric")
    made.add_argument("--memory", metavar="BYTES", help="at most this peak memory while it is made, as 8GB")
    made.add_argument("--hours", metavar="N", help="at most this wall time for making it")
    made.add_argument("--served", metavar="BYTES", help="at most this size of what is served, as 500MB")
    made.add_argument(
        "--keep", action="append", metavar="SCORE=CHANGE", help="may change by this much from the base at worst"
    )
    add_records(made)
    add_json(made)


def _add_statistics(commands: Commands) -> None:
    """Commands about the variance in records."""
    text = "say how many items and seeds it takes to see a difference, from the variance in records"
    made = _add(commands, "power", "planning", text)
    made.add_argument(
        "--effect", type=float, required=True, metavar="N", help="the difference to see, in the score's unit"
    )
    made.add_argument("--power", type=float, default=0.8, metavar="N", help="chance to see it (0.8)")
    add_format(made)
    add_records(made)

    text = "split the variance of scores: training seed, item, decoding"
    made = _add(commands, "variance", "planning", text, VARIANCE_HELP)
    made.add_argument("recipe", nargs="*", help="of these methods alone")
    add_format(made)
    add_records(made)


def _add_upkeep(commands: Commands) -> None:
    """Commands about this machine and the store."""
    ui = _add(commands, "ui", "serve", "open the MLflow UI over this store")
    ui.add_argument("--port", type=port, default=5000, metavar="N", help="(5000)")
    ui.add_argument(
        "--host", default="127.0.0.1", metavar="NAME", help="a loopback address (127.0.0.1); the UI has no log-in"
    )
    for name, module, text in (
        ("doctor", "serve", "say what is installed, which devices there are, what is missing and how to get it"),
        ("status", "upkeep", "say which cells are wanted, running, done and failed"),
        ("verify", "upkeep", "compare the store's files with their checksums; damaged stages are put aside"),
    ):
        add_json(_add(commands, name, module, text))
    collect = _add(commands, "gc", "upkeep", "list what no record needs, and delete it after a yes")
    collect.add_argument("--yes", action="store_true", help="do not ask")
    add_json(collect)
    track = _add(commands, "track", "serve", "bring MLflow level with the records")
    track.add_argument("action", choices=("replay",), metavar="replay")
    completion = _add(commands, "completion", "completion", "print the tab completion of a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="shell", help="bash, zsh or fish")


def _add_drill(commands: Commands) -> None:
    text = "show on tiny cells that kills, crowds, full disks and a broken MLflow lose nothing"
    made = _add(commands, "drill", "drill", text)
    made.add_argument(
        "which", choices=("kill", "crowd", "disk", "mlflow"), metavar="drill", help="kill, crowd, disk or mlflow"
    )
    made.add_argument("--times", type=count, default=50, metavar="N", help="kill: how often (50)")
    made.add_argument("--processes", type=count, default=8, metavar="N", help="crowd: how many (8)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="kill: of the moments (0)")
    add_json(made)


def _add_bench(commands: Commands) -> None:
    made = _add(commands, "bench", "bench", "measure our trainers beside those of the libraries; wants an idle machine")
    made.add_argument("which", choices=("preference",), metavar="training", help="preference: DPO, ours and trl's")
    made.add_argument(
        "--models", nargs="+", default=["nano", "smollm2_135m"], metavar="MODEL", help="nano, smollm2_135m (both), tiny"
    )
    made.add_argument(
        "--lengths", nargs="+", default=["reviews", "long"], metavar="KIND", help="short, reviews, long (the last two)"
    )
    made.add_argument(
        "--sides",
        nargs="+",
        default=["ours", "trl"],
        metavar="SIDE",
        help="ours, ours_separate, trl, trl_precomputed (ours trl)",
    )
    made.add_argument("--batch", type=count, default=8, metavar="N", help="pairs (8)")
    made.add_argument("--steps", type=count, default=8, metavar="N", help="that are timed (8)")
    made.add_argument("--rounds", type=count, default=3, metavar="N", help="of all sides in turn (3)")
    made.add_argument("--threads", type=count, default=2, metavar="N", help="of each run (2)")
    add_json(made)

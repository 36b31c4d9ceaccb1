"""Arguments of every command, with examples."""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path
from typing import NoReturn

from polm_bench import __version__
from polm_bench.cli.catalogue import KINDS

MISTAKE = 2
FORMATS = ("md", "csv", "latex", "html", "json")

EXAMPLES = {
    "": """
  polm-bench ls recipes
  polm-bench plan +recipe=dpo
  polm-bench run +recipe=dpo
  polm-bench run -m +recipe=dpo,simpo seed=0,1,2""",
    "run": """
  polm-bench run +recipe=dpo
  polm-bench run +recipe=simpo recipe.loss.beta=2.0 budget=smoke
  polm-bench run +recipe=dpo model=smollm2_135m data=reviews suite=reviews budget=small
  polm-bench run -m +recipe=dpo,simpo seed=0,1,2       the matrix
  polm-bench run -m +recipe=dpo,simpo seed=0,1,2 launch=joblib     its cells beside each other; also launch=slurm, launch=ray
  polm-bench run -m '+recipe=glob(*,exclude=_*)'       every recipe
  polm-bench run +recipe=dpo --cfg job                 only print the configuration""",
    "plan": """
  polm-bench plan +recipe=dpo
  polm-bench plan +recipe=dpo model=smollm2_135m --json""",
    "tune": """
  polm-bench tune +recipe=dpo tune.trials=8
  polm-bench tune +recipe=lora tune.trials=16 tune.sampler=random seed=1""",
    "ls": """
  polm-bench ls
  polm-bench ls recipes
  polm-bench ls records --records results/five_paradigms/records
  polm-bench ls recipes --format md""",
    "show": """
  polm-bench show dpo                 a recipe: paper, graph, numbers and where they come from
  polm-bench show dpo-nano-nano       a record, by its id or the beginning of it""",
    "table": """
  polm-bench table five_paradigms
  polm-bench table overview --run --save --jobs 2      runs the missing cells, writes results/overview/
  polm-bench table overview --run --launch slurm launch.partition=gpu launch.gpus=1
  polm-bench table overview --format csv --records /some/records
  polm-bench table peft_metamath --against published   a publication's figures beside ours
  polm-bench table overview --against mine.yaml        your own figures of this table's cells
  polm-bench table overview --at tokens=100000         the same records at equal cost""",
    "report": """
  polm-bench report five_paradigms --open
  polm-bench report overview --out overview.html --records /some/records
  polm-bench report overview --track          an artifact in MLflow, too""",
    "compare": """
  polm-bench compare dpo-nano simpo-nano""",
    "advise": """
  polm-bench advise --needs preference --memory 8GB --hours 2 --keep retention=-0.01
  polm-bench advise --needs peft --by nano_arithmetic --served 10MB
  polm-bench advise --needs alignment --keep nano_facts=-0.15 --json --records results/five_paradigms/records""",
    "power": """
  polm-bench power --effect 0.02
  polm-bench power --effect 0.02 --power 0.9 --records results/five_paradigms/records""",
    "ui": """
  polm-bench ui
  polm-bench ui --port 5001""",
    "doctor": """
  polm-bench doctor
  polm-bench doctor --json""",
    "status": """
  polm-bench status                   while others run, too
  watch -n 5 polm-bench status""",
    "verify": """
  polm-bench verify""",
    "gc": """
  polm-bench gc
  polm-bench gc --yes --json""",
    "drill": """
  polm-bench drill kill --times 50
  polm-bench drill crowd --processes 8
  polm-bench drill disk
  polm-bench drill mlflow""",
    "bench": """
  polm-bench bench preference
  polm-bench bench preference --models nano --lengths reviews --rounds 5 --json
  polm-bench bench preference --sides ours ours_separate trl trl_precomputed""",
    "track": """
  polm-bench track replay             after a database was lost, or a server was down""",
    "completion": """
  eval "$(polm-bench completion bash)"        in ~/.bashrc
  eval "$(polm-bench completion zsh)"         in ~/.zshrc, after compinit
  polm-bench completion fish | source         in config.fish""",
}


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


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="polm-bench",
        description="Compare post-training methods of language models: one table, one suite, one cost ledger.",
        epilog=f"examples:{EXAMPLES['']}\n\nState lives under POLM_HOME (default: .polm in the working folder).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"polm-bench {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=Parser)

    def add(name: str, text: str, more: str = "") -> Parser:
        made = commands.add_parser(
            name,
            help=text,
            description=f"{text[:1].upper()}{text[1:]}.{more}",
            epilog=f"examples:{EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if not isinstance(made, Parser):
            raise TypeError(type(made))
        return made

    _add_cell_commands(
        add("run", "plan a cell, run what is missing, evaluate, write its record", CELL_HELP + HYDRA_HELP)
    )
    _add_cell_commands(add("plan", "show a cell's stages, what is done and what it may take; runs nothing", CELL_HELP))
    _add_cell_commands(add("tune", "try a recipe's settings, choose on validation rows, test the best once", TUNE_HELP))
    ls = add("ls", "list what there is")
    ls.add_argument("kind", nargs="?", choices=KINDS, metavar="kind", help=", ".join(KINDS))
    ls.add_argument("--format", choices=("plain", "md", "json"), default="plain")
    _add_records(ls)
    _add_json(ls)
    show = add("show", "show one recipe or one record")
    show.add_argument("name", help="a recipe, or a record's id or the beginning of it")
    _add_records(show)
    _add_json(show)
    _add_table(add("table", "build a table of conf/table/ from records"))
    _add_report(add("report", "write a table as one HTML page: sort, filter, quality against any cost, effects, items"))
    compare = add("compare", "say why two records differ")
    compare.add_argument("first", help="a record's id, or the beginning of it")
    compare.add_argument("second")
    _add_records(compare)
    _add_json(compare)
    _add_advise(
        add("advise", "say which methods of the records fit what you have, and which cell to run next", ADVICE_HELP)
    )
    power = add("power", "say how many items and seeds it takes to see a difference, from the variance in records")
    power.add_argument("--effect", type=float, required=True, help="the difference to see, in the score's unit")
    power.add_argument("--power", type=float, default=0.8, help="chance to see it (0.8)")
    power.add_argument("--format", choices=FORMATS, default=None, help="print it as this instead")
    _add_records(power)
    _add_json(power)
    ui = add("ui", "open the MLflow UI over this store")
    ui.add_argument("--port", type=_port, default=5000)
    ui.add_argument("--host", default="127.0.0.1", help="a loopback address; the UI has no log-in")
    _add_json(add("doctor", "say what is installed, which devices there are, what is missing and how to get it"))
    _add_json(add("status", "say which cells are wanted, running, done and failed"))
    _add_json(add("verify", "compare the store's files with their checksums; damaged stages are put aside"))
    collect = add("gc", "list what no record needs, and delete it after a yes")
    collect.add_argument("--yes", action="store_true", help="do not ask")
    _add_json(collect)
    _add_drill(add("drill", "show on tiny cells that kills, crowds, full disks and a broken MLflow lose nothing"))
    _add_bench(add("bench", "measure our trainers beside those of the libraries; wants an idle machine"))
    add("track", "bring MLflow level with the records").add_argument("action", choices=("replay",), metavar="replay")
    completion = add("completion", "print the tab completion of a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="shell")
    return top


CELL_HELP = """

Overrides choose a value of each group (model= data= budget= suite= launch= track=) and a
recipe (+recipe=), and change single numbers (recipe.optim.lr=1.0e-6, seed=1).
`polm-bench ls` lists the values."""
HYDRA_HELP = " Hydra's own options (-m, --cfg job, --config-dir) work too."


TUNE_HELP = """

The recipe's `search:` names the settings and their values. tune.trials=N (8) trials are run, tune.sampler=tpe|random|grid (tpe)
and tune.seed=N (0) say which; the first has the recipe's own numbers. The suite is put to the best one only. A killed study goes on."""


ADVICE_HELP = """

Methods are ranked by --by, or by the score that most of those which fit claim to better. In --keep, SCORE is a task, task/metric, or
`retention` (bits per byte of held-out text), and CHANGE what may be lost at worst, below zero, whichever way the score counts."""


def _add_cell_commands(made: Parser) -> None:
    made.add_argument("overrides", nargs="*", metavar="group=value")
    _add_json(made)


def _add_table(made: Parser) -> None:
    made.add_argument("name")
    made.add_argument("--run", action="store_true", help="run the cells that have no record yet")
    made.add_argument(
        "--jobs", type=_count, default=1, metavar="N", help="with --run: N cells at a time, which divide the cores"
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
    made.add_argument("--format", choices=FORMATS, default=None, help="print it as this instead")
    _add_records(made)
    _add_json(made)


def _add_report(made: Parser) -> None:
    made.add_argument("name", help="a table of conf/table/")
    made.add_argument("--out", type=Path, metavar="FILE", help="where to write it (POLM_HOME/reports/NAME.html)")
    made.add_argument("--open", action="store_true", help="open it in the browser")
    made.add_argument("--track", action="store_true", help="log it and the table's plot to MLflow")
    _add_records(made)
    _add_json(made)


def _add_advise(made: Parser) -> None:
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
    _add_records(made)
    _add_json(made)


def _add_drill(made: Parser) -> None:
    made.add_argument(
        "which", choices=("kill", "crowd", "disk", "mlflow"), metavar="which", help="kill, crowd, disk or mlflow"
    )
    made.add_argument("--times", type=_count, default=50, metavar="N", help="kill: how often (50)")
    made.add_argument("--processes", type=_count, default=8, metavar="N", help="crowd: how many (8)")
    made.add_argument("--seed", type=int, default=0, help="kill: of the moments (0)")
    _add_json(made)


def _add_bench(made: Parser) -> None:
    made.add_argument("which", choices=("preference",), metavar="which", help="preference: DPO, ours and trl's")
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
    made.add_argument("--batch", type=_count, default=8, metavar="N", help="pairs (8)")
    made.add_argument("--steps", type=_count, default=8, metavar="N", help="that are timed (8)")
    made.add_argument("--rounds", type=_count, default=3, metavar="N", help="of all sides in turn (3)")
    made.add_argument("--threads", type=_count, default=2, metavar="N", help="of each run (2)")
    _add_json(made)


def _add_records(made: Parser) -> None:
    made.add_argument("--records", type=Path, metavar="FOLDER", help="read records from here")


def _add_json(made: Parser) -> None:
    made.add_argument("--json", action="store_true", help="JSON on stdout")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no count: give 1 or more")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: give a number from 1 to 65535")
    return int(text)

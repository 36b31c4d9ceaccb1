"""Which command is meant, and what its outcome means for the exit status."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from polm_bench.cli.arguments import MISTAKE, parser
from polm_bench.errors import PolmError

DONE, INTERRUPTED, PIPE_CLOSED = 0, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 a stage failed, 2 the user's mistake, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    atexit.register(gc.freeze)  # or all of PyTorch and lm-eval is looked through for garbage at the end: two seconds
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except PolmError as error:
        from polm_bench.run.redact import scrub

        sys.stderr.write(f"error: {scrub(str(error))}\n")
        return MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what is finished is kept; the same command goes on from there\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains again when it closes stdout
        return PIPE_CLOSED
    return status


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["__complete"]:
        from polm_bench.cli.completion import candidates

        print("\n".join(candidates(words[1:])))
        return DONE
    if words[:1] == ["__stage"]:
        from polm_bench.cli.worker import work

        return work(Path(words[1]))
    # Everything after `run`, `plan` and `tune` is Hydra's grammar, options such as -m and --config-dir included.
    if words[:1] in (["run"], ["plan"], ["tune"]) and not {"-h", "--help"} & set(words[1:]):
        overrides = [word for word in words[1:] if word != "--json"]
        return _run_or_plan(words[0], overrides, as_json="--json" in words[1:])
    arguments = parser().parse_args(words)
    if arguments.command is None:
        parser().print_help()
        return DONE
    return _call(arguments)


def _run_or_plan(command: str, overrides: list[str], as_json: bool) -> int:
    if command == "tune":
        from polm_bench.cli.tuning import tune

        return tune(overrides, as_json)
    from polm_bench.cli import cells

    return cells.run(overrides, as_json) if command == "run" else cells.show_plan(overrides, as_json)


def _call(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "ls":
            from polm_bench.cli.listing import ls

            return ls(arguments.kind, "json" if arguments.json else arguments.format, arguments.records)
        case "show":
            from polm_bench.cli.listing import show

            return show(arguments.name, arguments.records, arguments.json)
        case "table":
            from polm_bench.cli.tables import table

            style = "json" if arguments.json else arguments.format
            if arguments.at is not None:
                from polm_bench.cli.at_cost import at

                return at(arguments, style)
            if arguments.against is not None:
                from polm_bench.cli.references import against

                return against(arguments, style)
            where = (arguments.jobs, arguments.launch)
            return table(arguments.name, arguments.run, arguments.save, style, arguments.records, *where)
        case "report":
            from polm_bench.cli.report import report

            return report(
                arguments.name, arguments.records, arguments.out, arguments.open, arguments.track, arguments.json
            )
        case "advise":
            from polm_bench.cli.advise import advise

            return advise(arguments)
        case "compare":
            from polm_bench.cli.tables import compare

            return compare(arguments.first, arguments.second, arguments.records, arguments.json)
        case "power":
            from polm_bench.cli.planning import power

            style = "json" if arguments.json else arguments.format
            return power(arguments.effect, arguments.power, style, arguments.records)
        case "ui":
            from polm_bench.cli.serve import ui

            return ui(arguments.host, arguments.port)
        case "doctor":
            from polm_bench.cli.serve import doctor

            return doctor(arguments.json)
        case "status":
            from polm_bench.cli.upkeep import status

            return status(arguments.json)
        case "verify":
            from polm_bench.cli.upkeep import verify

            return verify(arguments.json)
        case "gc":
            from polm_bench.cli.upkeep import gc

            return gc(arguments.yes, arguments.json)
        case "drill":
            from polm_bench.cli.drill import drill

            return drill(arguments.which, arguments.times, arguments.processes, arguments.seed, arguments.json)
        case "bench":
            from polm_bench.cli.bench import bench

            return bench(arguments)
        case "track":
            from polm_bench.cli.serve import replay

            return replay()
        case "completion":
            from polm_bench.cli.completion import script

            print(script(arguments.shell))
            return DONE
    raise PolmError(f"no command named '{arguments.command}'")

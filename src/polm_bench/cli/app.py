"""Which command is meant, and what its outcome means for the exit status."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType

from polm_bench.cli.arguments import parser
from polm_bench.cli.parsing import MISTAKE
from polm_bench.errors import PolmError

REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)
"""What a file system refuses, and the user can mend."""

DONE, INTERRUPTED, PIPE_CLOSED = 0, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 a stage failed, 2 the user's mistake, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    sys.excepthook = _without_secrets
    atexit.register(gc.freeze)  # or all of PyTorch and lm-eval is looked through for garbage at the end: two seconds
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except PolmError as error:
        from polm_bench.run.redact import scrub

        sys.stderr.write(f"error: {scrub(str(error))}\n")
        return MISTAKE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains again when it closes stdout
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        sys.stderr.write(f"error: {error.strerror}: {error.filename or 'the system does not say which file'}\n")
        return MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what is finished is kept; the same command goes on from there\n")
        return INTERRUPTED
    return status


def _without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python says of a mistake of ours; its message may quote what the environment holds in confidence."""
    from traceback import format_exception

    from polm_bench.run.redact import scrub

    sys.stderr.write(scrub("".join(format_exception(kind, error, trace))))


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
    if command == "plan":
        from polm_bench.cli.plans import plan

        return plan(overrides, as_json)
    from polm_bench.cli.cells import run

    return run(overrides, as_json)


def _call(arguments: argparse.Namespace) -> int:
    """The command's own function; its module is imported now, so that no command loads what only another one needs."""
    module = import_module(f"polm_bench.cli.{arguments.module}")
    call: Callable[[argparse.Namespace], int] = getattr(module, arguments.command)
    return call(arguments)

"""`report`: a table as a page for a browser."""

from __future__ import annotations

from argparse import Namespace

from polm_bench.cli.printing import print_json
from polm_bench.cli.sources import check_source, folder_of, source
from polm_bench.cli.tables import made
from polm_bench.errors import PolmError
from polm_bench.files import replacing
from polm_bench.paths import conf_dir, home


def report(arguments: Namespace) -> int:
    """Write a table's page as one file that opens offline; `--open` opens it, `--track` logs it to MLflow with the table's plot."""
    from polm_bench.report.page import render
    from polm_bench.report.spec import load_spec

    name = arguments.name
    spec = load_spec(conf_dir(), name)
    check_source(False, arguments.records)
    folder = folder_of(spec, False, arguments.records)
    page = made(spec, folder).page
    text = render(page, "html")
    path = (arguments.out or home() / "reports" / f"{name}.html").absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise PolmError(f"{path} can't be written ({error.strerror}). Say another file with --out.") from error
    if arguments.track:
        from polm_bench.run.track_report import track_report

        plots = {one.file(name): one.svg() for one in page.drawings}
        track_report(name, page.title, {f"{name}.html": text, **plots}, home())
    if arguments.json:
        print_json({"table": name, "path": str(path), "records": len(page.records), "source": str(folder)})
    else:
        print(f"Report: {path}\n{source(folder)}")
    if arguments.open:
        import webbrowser

        webbrowser.open(path.as_uri())
    return 0

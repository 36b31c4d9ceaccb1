"""`report`: a table as a page for a browser."""

from __future__ import annotations

from pathlib import Path

from polm_bench.cli.printing import print_json
from polm_bench.cli.sources import check_source, folder_of, source
from polm_bench.cli.tables import made
from polm_bench.files import replacing
from polm_bench.paths import conf_dir, home


def report(name: str, records: Path | None, out: Path | None, show: bool, track: bool, as_json: bool) -> int:
    """Write a table's page as one file that opens offline; `show` opens it, `track` logs it to MLflow with the table's plot."""
    from polm_bench.report.page import render
    from polm_bench.report.spec import load_spec

    spec = load_spec(conf_dir(), name)
    check_source(False, records)
    folder = folder_of(spec, False, records)
    page = made(spec, folder).page
    text = render(page, "html")
    path = (out or home() / "reports" / f"{name}.html").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
    if track:
        from polm_bench.run.track_report import track_report

        plots = {f"{name}.svg": page.drawing()} if page.drawing else {}
        track_report(name, page.title, {f"{name}.html": text, **plots}, home())
    if as_json:
        print_json({"table": name, "path": str(path), "records": len(page.records), "source": str(folder)})
    else:
        print(f"Report: {path}\n{source(folder)}")
    if show:
        import webbrowser

        webbrowser.open(path.as_uri())
    return 0

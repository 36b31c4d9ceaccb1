"""A table's report and plot in MLflow: one run a table, beside the runs that its records became."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polm_bench.run.track import initialise, tracking_uri, warn

TABLE = "polm.table"


def track_report(name: str, title: str, files: Mapping[str, str], home: Path) -> None:
    """Log the texts of a table's files (HTML, SVG) as artifacts, which the UI shows; any failure is a warning.

    A report that was logged before is replaced.
    """
    try:
        experiment = initialise(home)
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=tracking_uri(home))
        for run in client.search_runs([experiment], f"tags.`{TABLE}` = '{name}'", max_results=1000):
            client.delete_run(run.info.run_id)
        tags = {
            TABLE: name,
            "polm.kind": "table",
            "title": title,
            "mlflow.note.content": f"{title}. See its artifacts.",
        }
        made = client.create_run(experiment, run_name=f"table {name}", tags=tags).info.run_id
        for file, text in files.items():
            client.log_text(made, text, file)
        client.set_terminated(made)
    except Exception as error:  # noqa: BLE001  MLflow being down or refusing a value never stops a report
        warn(f"the report of table {name}", error)

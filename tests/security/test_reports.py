"""What a model, a record or a task says is text in a report, never markup."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

import pytest
from tests.report.conftest import make_spec
from tests.report.synthetic import make_record, write_json, write_spine

from polm_bench.cli.serve import _check_address
from polm_bench.errors import PolmError
from polm_bench.paths import conf_dir
from polm_bench.report import page, table

MARKUP = "<script>alert('x')</script><img src=x onerror=alert(1)>"


def page_of(folder, text: str) -> str:
    """The page of a table with `text` wherever a record has some."""
    records = write_spine(folder / "records", recipes=("base", "sft"), seeds=(0,))
    told = {"title": text, "paradigm": "alignment", "family": "x", "paper": text}
    write_json(records, make_record("simpo", status="failed", reason=text) | {"recipe": told})
    spec = make_spec(title=text, recipes=["base", "sft", "simpo"], seeds=[0])
    return page.render(table.read(spec, records, conf_dir()).page, "html")


@pytest.fixture
def html(tmp_path) -> str:
    return page_of(tmp_path, MARKUP)


def tags(html: str) -> Counter[str]:
    found: Counter[str] = Counter()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.update([tag])
    parser.feed(html)
    return found


def test_an_html_report_escapes_what_records_say(html, tmp_path):
    assert tags(html) == tags(page_of(tmp_path / "harmless", "a text"))
    assert MARKUP not in html
    assert "&lt;script&gt;" in html


def test_an_html_report_loads_nothing_from_elsewhere(html):
    assert "<link" not in html
    assert "src=" not in html.replace("src=x", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_a_server_binds_to_loopback_only(host):
    with pytest.raises(PolmError, match="no loopback address"):
        _check_address(host, 5000)

"""What a model wrote, or a record says, is text on a terminal, never a command to it."""

from __future__ import annotations

import sys

import pytest

from polm_bench.cli.printing import console, print_rows, visible

CLEARS = "\x1b[2J\x1b]0;mine\x07\x9b1;1H\x7f\r"


def test_control_characters_are_shown_and_line_breaks_kept():
    assert visible("a\tb\nc é 💥") == "a\tb\nc é 💥"
    assert visible("\x1b[1m\x07\x9b") == "\\x1b[1m\\x07\\x9b"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("said", [CLEARS, "[/red] [link=file:///etc/passwd]here[/link]"])
def test_texts_of_records_are_printed_as_they_are(capsys, monkeypatch, terminal, said):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    print_rows([{"cell": "x", "why": said}], ("cell", "why"))
    console().print(f"A 1.0  {said}", markup=False, highlight=False)
    out = capsys.readouterr().out
    assert out.count(visible(said)) == 2
    assert "\x1b[2J" not in out  # rich's own styles are such sequences too
    assert not set("\x07\x9b\x7f\r") & set(out)

"""Debian's chromium without a window: a page's DOM after its scripts have run, and what its console said."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

CHROMIUM = shutil.which("chromium")
HEADLESS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=10000 --enable-logging=stderr"
).split()
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


class Browsed(NamedTuple):
    dom: str
    console: list[str]


def browse(page: Path, profile: Path, *what: str, width: int = 1400, height: int = 1000) -> Browsed:
    """Open a file; `what` are more options, such as `--screenshot=`."""
    command = [CHROMIUM, *HEADLESS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    done = subprocess.run(
        [*command, *(what or ("--dump-dom",)), page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return Browsed(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def driven(page: Path, script: str) -> Path:
    """A copy of a page, without its policy, that runs a script once it is loaded and shows its result as `<pre id="told">`."""
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    added = (
        "<script>addEventListener('load', () => { const told = document.createElement('pre'); told.id = 'told';"
        f"told.textContent = JSON.stringify((() => {{ {script} }})()); document.body.append(told); }});</script>"
    )
    copy = page.with_name(f"driven-{page.name}")
    copy.write_text(text.replace("</body>", f"{added}\n</body>"), encoding="utf-8")
    return copy

"""`python -m polm_bench` is `polm-bench`."""

from __future__ import annotations

import sys

from polm_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())

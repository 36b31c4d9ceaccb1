#!/bin/sh
# Builds the table again. It stands on conf/ alone, so no cell is run.
set -eu
cd "$(dirname "$0")/../.."  # the root of the checkout
PATH="$PWD/.venv/bin:$PATH"  # where make installs it
polm-bench table survey_table9 --save

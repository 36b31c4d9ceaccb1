#!/bin/sh
# Runs the 39 cells of the table 'survey_table5' again and rebuilds it. What the store has is not run twice.
set -eu
cd "$(dirname "$0")/../.."  # the root of the checkout
PATH="$PWD/.venv/bin:$PATH"  # where make installs it
polm-bench table survey_table5 --run --save

#!/bin/sh
# Runs the 123 cells of the table 'five_paradigms' again and rebuilds it. What the store has is not run twice.
set -eu
cd "$(dirname "$0")/../.."  # the root of the checkout
PATH="$PWD/.venv/bin:$PATH"  # where make installs it
polm-bench table five_paradigms --run --save

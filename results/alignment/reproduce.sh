#!/bin/sh
# Runs the 380 cells of the table 'alignment' again and rebuilds it. What the store has is not run twice.
set -eu
cd "$(dirname "$0")/../.."  # the root of the checkout
PATH="$PWD/.venv/bin:$PATH"  # where make installs it
polm-bench table alignment --run --save

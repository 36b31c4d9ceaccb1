#!/bin/sh
# Runs the 129 cells of the table 'peft' again and rebuilds it. What the store has is not run twice.
set -eu
cd "$(dirname "$0")/../.."  # the root of the checkout
polm-bench table peft --run --save

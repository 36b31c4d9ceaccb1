#!/bin/sh
# Runs the cells of the table 'reviews' again and rebuilds it. What the store has is not run twice.
set -eu
cd "$(dirname "$0")/../.."  # the root of the checkout
polm-bench run +recipe=base model=smollm2_135m data=reviews budget=small suite=reviews seed=0
polm-bench run +recipe=sft model=smollm2_135m data=reviews budget=small suite=reviews seed=0
polm-bench run +recipe=dpo model=smollm2_135m data=reviews budget=small suite=reviews seed=0
polm-bench table reviews --records "${POLM_HOME:-.polm}/records" --save

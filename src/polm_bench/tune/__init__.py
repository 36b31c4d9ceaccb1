"""Tuning: trials of a recipe's settings, chosen on validation rows, tested once."""

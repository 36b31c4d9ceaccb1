"""lm-eval tasks on held-out reviews."""

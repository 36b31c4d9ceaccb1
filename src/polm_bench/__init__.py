"""Compare post-training methods of language models: one table, one suite, one cost ledger."""

__version__ = "0.1.0"

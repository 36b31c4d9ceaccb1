"""Records to tables, statistics, plots and what the terminal shows. Reads records and nothing else; imports no model library."""

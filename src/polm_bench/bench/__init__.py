"""How fast the trainers are beside those of the libraries."""

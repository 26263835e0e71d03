"""The wrong versions of the rules, a table per family of ops; `experiments.planted_bugs` puts them in place."""

"""Experiments: one script is one claim; `python -m experiments.NAME --help`."""

"""`python -m mlfleet`, if the command itself is not installed."""

from mlfleet.cli import app

app()

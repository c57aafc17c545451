"""`python -m mlfleet`, where the command itself is not installed."""

from mlfleet.cli import app

app()

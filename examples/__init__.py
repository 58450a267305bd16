"""Programs for a clone of the repository: `python -m examples.samples`."""

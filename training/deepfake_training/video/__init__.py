"""The slots ``video`` and ``frame``: material, fakes, fitting, and what a user is told about clips."""

"""The slots ``video`` and ``frame``: material, fakes, fitting, what a user is told."""

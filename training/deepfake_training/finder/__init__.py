"""The ``face-finder`` slot: labels, scenes, fitting."""

"""The ``audio`` slot: material, fakes, fitting."""

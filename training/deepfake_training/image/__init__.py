"""The ``image`` slot: material, fakes, fitting."""

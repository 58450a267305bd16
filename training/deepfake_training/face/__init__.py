"""The ``face`` slot: material, fakes, fitting."""

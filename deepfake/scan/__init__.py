"""Many files: listing, journal, executors, tables."""

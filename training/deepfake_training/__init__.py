"""Data, training, calibration, evaluation and export of the shipped bundles."""

"""Data, training, calibration, evaluation and export of the shipped bundles."""

import deepfake as deepfake  # keeps dependencies quiet, also those that a module names before it

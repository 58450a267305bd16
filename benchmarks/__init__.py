"""Measurements that print a table: ``python -m benchmarks.NAME --help``."""

import deepfake as deepfake  # keeps dependencies quiet, also those that a module names before it

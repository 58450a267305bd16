"""Bundles for edge devices."""

"""Detects generated and manipulated images, speech and video."""

"""Comparisons, and fits of constants in the code, that are no recipe of a bundle."""

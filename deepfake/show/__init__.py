"""A report for people."""

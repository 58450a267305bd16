"""A user's own detector: a small head on the features of a shipped network, from two folders."""

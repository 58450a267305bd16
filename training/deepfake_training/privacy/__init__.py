"""Heads under differential privacy: what they are fitted to, the noise, and what it proves."""

"""Backdoors: planted into training data for measuring, and looked for in finished networks."""

"""Sources of evidence: one module each."""

"""Training data under suspicion: what of labelled files is not what it should be."""

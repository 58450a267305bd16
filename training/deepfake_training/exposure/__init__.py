"""What a model and its answers give away: of the files that it learnt from, and of itself."""

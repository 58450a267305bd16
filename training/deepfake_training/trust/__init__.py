"""What may be believed: bundles, and the signers of manifests."""

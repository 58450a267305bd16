"""What travels in a file beside its pixels and samples."""

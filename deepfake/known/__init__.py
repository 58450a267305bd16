"""Known media: fingerprints that survive recompression, and what was ruled on files with one."""

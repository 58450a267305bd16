"""Opening a file and decoding it in a confined child process."""

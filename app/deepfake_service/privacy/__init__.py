"""What is kept of media and reports: sealed, for as long as was decided, and erased on request."""

"""What an operator sees: metrics (all declared in one place), log lines, and the stages of one request."""

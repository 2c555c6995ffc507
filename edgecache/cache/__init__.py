"""What is cached, where it is found, and whether it answers a question."""

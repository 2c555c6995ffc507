"""The way of one request through the POP: `serve` holds the order, the other modules one step each."""

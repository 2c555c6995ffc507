"""What a developer of functions works with: starters, building, cases, measurements, a POP of one's own.

Runs functions in the same parts that the daemon runs them in. The commands are `cli.fn`'s part.
"""

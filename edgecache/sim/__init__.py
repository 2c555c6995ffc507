"""The embedded core: a scripted OpenAI-compatible cluster, and what else simulates the world around a POP."""

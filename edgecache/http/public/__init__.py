"""The OpenAI API, one module a noun."""

"""HTTP in: the OpenAI API and the admin API, each on a listener of its own."""

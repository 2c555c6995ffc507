"""The formats of the OpenAI API: JSON bodies, server-sent events, control headers. Pure: bytes in, values out."""

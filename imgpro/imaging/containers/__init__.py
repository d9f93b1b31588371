"""One module per picture container: each walks the bytes once, before a decoder sees them, and decodes no pixel."""

"""Who is calling: keys, tokens, authentication."""

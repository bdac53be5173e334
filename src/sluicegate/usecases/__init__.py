"""One verb per file. Use cases see `core` and `ports`; adapters are handed to them."""

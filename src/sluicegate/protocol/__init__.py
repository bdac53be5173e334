"""MCP on the wire, sans I/O: what a message is and how it looks, in both eras."""

"""The only outgoing I/O: MCP upstreams over streamable HTTP, their addresses and their credentials."""

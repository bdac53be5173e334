"""HTTP in: the ASGI stack, the MCP endpoints, REST and the public pages. Knows use cases, never adapters."""

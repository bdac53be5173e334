"""Pure decisions: no I/O, no clock, no async. Everything here can be tested in microseconds."""

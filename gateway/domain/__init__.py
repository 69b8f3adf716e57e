"""What the gateway talks about, as frozen dataclasses and pure rules. No I/O, no clock, no configuration."""

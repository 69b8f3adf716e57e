"""How fast certificates are looked up and verified, and whether a slow issuer slows others; beside bare programs."""

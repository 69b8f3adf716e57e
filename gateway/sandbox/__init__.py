"""The whole neighbourhood on one machine: gateway and simulated authorities, seeded with synthetic people."""

"""The admin listener: metrics, liveness, readiness, mappings. Never reachable from where citizens and agencies are."""

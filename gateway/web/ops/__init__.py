"""The admin listener: metrics, liveness, readiness. Never reachable from where citizens and agencies are."""

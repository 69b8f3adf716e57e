"""One folder a region. Nothing here is imported by the core; `gateway.regions` loads enabled folders by id."""

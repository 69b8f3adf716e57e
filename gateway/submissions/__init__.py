"""Cases on their way: intake, materials, delivery, status events, and what is shown of them."""

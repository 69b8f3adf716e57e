"""In a real browser, through the whole sandbox."""

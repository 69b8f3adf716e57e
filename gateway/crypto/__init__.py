"""Keys and what is done with them: signing, sealing at rest, references to people. Key material is handed in."""

"""One suite for every region folder, one for both stores."""

"""What may be in a file that somebody uploads, and the looks into it, each bounded in time and in memory."""

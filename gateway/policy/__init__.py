"""Who may do what, and what may cross which border: decided here from data files, each decision explained."""

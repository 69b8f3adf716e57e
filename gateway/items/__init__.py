"""What regions publish of their items (事项库): pulled on a schedule, compared, and approved by a person."""

"""Generated answers: how they are made, and how they are scored against references."""

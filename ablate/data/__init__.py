"""Images: where they come from, how they are split, looked at, decoded and drawn."""

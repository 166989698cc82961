"""Nothing is served or announced that has no note and no test of its own."""

"""Virtual machine monitors that others wrote, as they are, and what befalls one while it boots."""

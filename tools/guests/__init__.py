"""Real guests under real virtual machine monitors, on kvmshim."""

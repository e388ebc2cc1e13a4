"""`rayplat doctor`: what keeps this machine from running the platform, and how to mend it."""

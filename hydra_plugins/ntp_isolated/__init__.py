"""ntp's launcher, where Hydra wants plug-ins to live. It imports this at every start, so it must stay light."""

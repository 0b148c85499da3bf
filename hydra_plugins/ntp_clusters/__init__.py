"""ntp's launchers for clusters, where Hydra wants plug-ins to live. It imports this at every start: it stays light."""

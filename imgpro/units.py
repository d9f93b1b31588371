"""The units and files that make imgpro a service of systemd, as text."""

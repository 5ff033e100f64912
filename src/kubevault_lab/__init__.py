"""The base of the lab: its ports and the programs of its servers. Used only in this repository, not in the wheel."""

"""The lab's ground: its ports and the programs of its servers. For this repository alone, not in the wheel."""

"""Drills: kills, crowds and full disks on tiny cells, which show that the promises of the runner hold on this machine."""

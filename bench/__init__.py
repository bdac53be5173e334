"""The project's own benchmarks: side by side in one run, as ratios. `make bench`."""

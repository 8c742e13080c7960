"""Long measurements, one module each: `python -m benchmarks.<name> --help`. Their figures lie in `results/`."""

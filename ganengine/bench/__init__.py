"""Measuring: the fused ops against eager PyTorch and torch.compile. docs/benchmarks.md states the rules."""

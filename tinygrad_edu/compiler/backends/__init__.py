"""What the compiler writes: NumPy for a batch, plain Python for one point."""

"""What the compiler writes: plain Python for one point. (NumPy, for a batch, is written by `emit`.)"""

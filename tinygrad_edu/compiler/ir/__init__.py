"""The one representation of a program: statements over named axes, its gradient, and its loops."""

"""Arrays come in; what goes out is a routine, statements over named axes, and its gradient, a routine too."""

"""A batch comes in; what goes out is numbers: programs are made, compared with the function, kept and called."""

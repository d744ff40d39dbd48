"""A graph of scalars comes in; what goes out is its arrays, products of matrices and loops."""

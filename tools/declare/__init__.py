"""C declarations as Python modules."""

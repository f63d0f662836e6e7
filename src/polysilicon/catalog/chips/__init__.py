"""Which chips a machine has, from the files in which its kernel tells of them."""

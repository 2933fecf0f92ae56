"""Reading a folder of documents: the walk, and packing what it finds."""

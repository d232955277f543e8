"""The formats that sources are read in, one module each: text and label of each row, as the file has them."""

"""HTTP/1.1 as bytes: heads, bodies in chunks, and what is refused. llhttp (httptools) does the parsing."""

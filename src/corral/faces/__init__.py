"""What people look at: each face reads values and sends commands; faces never import each other."""

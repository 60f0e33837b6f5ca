"""Two models or caches -> everything that is concluded of them, and the folder it is kept in."""

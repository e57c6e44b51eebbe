"""The flow language: what an author writes, what runs, and how callers are understood."""

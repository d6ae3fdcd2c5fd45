"""Chats: what a client may send, how the checkpoint's template renders it, and how its answers are read."""

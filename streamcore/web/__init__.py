"""Serve a prompt or a graph over HTTP, with a chat page: an app of its own, or a router to mount in another."""

from streamcore.web.app import create_app
from streamcore.web.router import router

__all__ = ["create_app", "router"]

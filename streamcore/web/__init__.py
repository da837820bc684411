"""Serve a prompt or a graph over HTTP, with a chat page: an app of its own, or a router to mount in another."""

from streamcore.errors import ConfigError, install_command

try:
    from streamcore.graph.limits import RunLimits
    from streamcore.web.app import create_app
    from streamcore.web.durable import Durable
    from streamcore.web.files import FileOptions
    from streamcore.web.history import HistoryLimit
    from streamcore.web.page_options import Feedback, PageOptions
    from streamcore.web.router import router
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("streamcore"):
        raise
    raise ConfigError(
        f"streamcore.web needs the package {error.name!r}, which is not installed; run: {install_command('server')}"
    ) from error

__all__ = ["Durable", "Feedback", "FileOptions", "HistoryLimit", "PageOptions", "RunLimits", "create_app", "router"]

"""Hourly bike-sharing demand as software-defined assets, each with an exact record of what it was made from."""

from typing import TYPE_CHECKING, Any

from bikes_assets import renamed

if TYPE_CHECKING:
    from bikes_assets.app.notebook import experiment, load

__all__ = ["experiment", "load"]
renamed.install()


def __getattr__(name: str) -> Any:
    """Return `load` or `experiment`, imported when they are asked for: importing the package stays light."""
    if name in __all__:
        from bikes_assets.app import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

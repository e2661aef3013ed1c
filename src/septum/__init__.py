"""septum keeps the guests of mutually distrusting owners apart, and opens only the doors that were declared."""

__version__ = "0.1.0"
__all__ = ["__version__"]

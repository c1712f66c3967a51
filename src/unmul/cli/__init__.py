"""The command line: app.py finds the verb, each verb is one function in a file of its name."""

__all__: list[str] = []

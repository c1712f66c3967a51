"""A server of packed models: OpenAI's routes over continuous batching of constant-size states. See docs/serve.md."""

__all__: list[str] = []

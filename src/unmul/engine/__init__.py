"""Native runtimes behind one small interface (engine.base.Engine)."""

"""`__all__` of every module is there, sorted and true, and every public name says what it is for."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import unmul
from unmul.engine.base import Engine, Writer
from unmul.engine.cuda.device import Device

HEAVY = {"unmul.engine._native", "unmul.__main__", "unmul.serve.ray"}  # the last needs Ray
NAMES = sorted(info.name for info in pkgutil.walk_packages(unmul.__path__, "unmul.") if info.name not in HEAVY)


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("name", NAMES)
def test_all_is_sorted_complete_and_true(name: str) -> None:
    module = load(name)
    exported = list(getattr(module, "__all__", []))
    assert exported == sorted(set(exported), key=isort_key)
    for key in exported:
        assert getattr(module, key) is not None
    hidden = [key for key, value in vars(module).items() if defined_here(module, key, value) and key not in exported]
    assert hidden == [], f"{name} defines {hidden} and does not export them"


def isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order in which ruff sorts."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def defined_here(module: ModuleType, key: str, value: object) -> bool:
    return (
        not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = load(name)
    assert (module.__doc__ or "").strip(), f"{name} has no docstring"
    for key in getattr(module, "__all__", ()):
        value = getattr(module, key)
        if not defined_here(module, key, value):
            continue
        assert value.__doc__, f"{name}.{key} has no docstring"
        if inspect.isclass(value):
            methods = {k: v for k, v in vars(value).items() if inspect.isfunction(v) and not k.startswith("_")}
            bare = [k for k, v in methods.items() if not v.__doc__ and not inherited_doc(value, k)]
            assert bare == [], f"{name}.{key}: {bare} have no docstring"


def inherited_doc(owner: type, method: str) -> bool:
    """Whether a method fulfils a contract documented elsewhere: of a base class, an engine, PyTorch or Amaranth."""
    contracts = (*owner.__mro__[1:], Engine, Writer, Device)
    return method in ("forward", "elaborate") or any(
        getattr(vars(base).get(method), "__doc__", None) for base in contracts
    )

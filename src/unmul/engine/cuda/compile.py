"""CUDA C++ to machine code at run time, by NVRTC, without a toolkit or a GPU; what was compiled is kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmul.errors import EngineError, MissingExtraError
from unmul.files import atomic_file

__all__ = ["Defines", "cache_folder", "compile_source", "compiled"]

Defines = Mapping[str, int | str]

SOURCES = Path(__file__).parent
CACHE_VARIABLE = "UNMUL_CACHE"
# Contraction would give other bits than the CPU engine.
OPTIONS = ("--std=c++17", "-fmad=false", "--ptxas-options=-v")


def cache_folder() -> Path:
    """Where compiled kernels are kept: UNMUL_CACHE, or unmul in the user's cache folder."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unmul"
    return Path(os.environ.get(CACHE_VARIABLE) or usual)


def compiled(source: str, arch: str, defines: Defines) -> bytes:
    """The cubin of a .cu file of this folder, from the cache or compiled now.

    Args:
        arch: "sm_90".
        defines: macros, which are part of the key as the sources, the options and the compiler's version are.
    """
    path = cache_folder() / f"{Path(source).stem}-{arch}-{_key(source, arch, defines)}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        code, _ = compile_source(source, arch, defines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as handle:
            handle.write(code)
    except OSError:
        pass  # a cache that cannot be written only costs the next start its seconds
    return code


def compile_source(source: str, arch: str, defines: Defines) -> tuple[bytes, str]:
    """The cubin and the compiler's log with registers and spills of every kernel."""
    nvrtc = _nvrtc()
    headers = [(path.name.encode(), path.read_bytes()) for path in _headers()]
    names, texts = zip(*headers, strict=True)
    text = (SOURCES / source).read_bytes()
    program = _checked(nvrtc.nvrtcCreateProgram(text, source.encode(), len(headers), list(texts), list(names)))
    options = [option.encode() for option in (*OPTIONS, f"-arch={arch}", *_flags(defines))]
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        message = log.rstrip(b"\0").decode(errors="replace")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise EngineError(f"{source} does not compile for {arch} ({message.strip()})", "report it")
        code = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program)))
        _checked(nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(code), message


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ModuleNotFoundError:
        raise MissingExtraError("cuda-bindings", "cuda") from None
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise EngineError(f"the CUDA compiler NVRTC cannot be loaded ({error})", "pip install 'unmul[cuda]'") from None
    return nvrtc


def _checked(answer: tuple[Any, ...]) -> Any:
    """The result of a call of NVRTC, which gives its status first."""
    status, *result = answer
    if status.value != 0:
        raise EngineError(f"the CUDA compiler failed ({status.name})", "pip install --force-reinstall 'unmul[cuda]'")
    return result[0] if result else None


def _headers() -> list[Path]:
    return sorted(SOURCES.glob("*.cuh"))


def _flags(defines: Defines) -> list[str]:
    return [f"-D{name}={value}" for name, value in sorted(defines.items())]


def _key(source: str, arch: str, defines: Defines) -> str:
    version = _checked_version()
    digest = hashlib.sha256("\0".join((version, arch, *OPTIONS, *_flags(defines))).encode())
    for path in (SOURCES / source, *_headers()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _checked_version() -> str:
    status, major, minor = _nvrtc().nvrtcVersion()
    _checked((status,))
    return f"{major}.{minor}"

"""What is fuzzed: all that reads bytes of strangers. A target returns, whatever it is given, or a fault is found."""

import asyncio
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzz.mutate import join, split
from models import latent_folder
from servers import chatting
from speakers import SENTENCES, speaking_packed

from unmul.checkpoint import PackedCheckpoint, pack, read_latent
from unmul.checkpoint.tensorfile import TensorFile
from unmul.config import ModelConfig
from unmul.data.tokenizer import encode_all, end_id, load_tokenizer, save_tokenizer, train_tokenizer, vocabulary_size
from unmul.engine.cpu import CpuEngine
from unmul.errors import UnmulError
from unmul.gateware import isa
from unmul.gateware.boards import BOARDS
from unmul.gateware.compile import plan_model
from unmul.gateware.fit import choose_parameters
from unmul.gateware.report import zero_checkpoint
from unmul.runtime import folder_tokenizer
from unmul.runtime.text import TextStream, encode
from unmul.serve.app import create_app
from unmul.serve.service import Limits, open_service

__all__ = ["TARGETS", "Target"]

SMALL = ModelConfig(vocab_size=7, hidden_size=3, intermediate_size=4, num_hidden_layers=1)
DEEP = b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"


class Target(ABC):
    """A reader under test.

    Args:
        folder: an empty one to work in.
    """

    parts = 1  # that an input has

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def seeds(self) -> Iterator[bytes]:
        """Inputs to begin with: sound ones, and known hard ones."""

    @abstractmethod
    def read(self, data: bytes) -> None:
        """Read an input as a user's command would. UnmulError is the one answer to what cannot be read."""

    def __call__(self, data: bytes) -> None:
        """Read an input; what it raises is a fault."""
        with suppress(UnmulError):
            self.read(data)


class Tensors(Target):
    """A safetensors file, byte for byte."""

    def seeds(self):
        yield (latent_folder(self.folder / "sound", SMALL) / "model.safetensors").read_bytes()
        yield len(DEEP).to_bytes(8, "little") + DEEP

    def read(self, data):
        (self.folder / "file").write_bytes(data)
        for array in TensorFile(self.folder / "file").values():
            array.tobytes()


class _Folder(Target):
    """A checkpoint folder: config.json, the weights' header, their data."""

    parts = 3

    def pieces(self, folder: Path) -> tuple[bytes, bytes, bytes]:
        weights = (folder / "model.safetensors").read_bytes()
        data = 8 + int.from_bytes(weights[:8], "little")
        return (folder / "config.json").read_bytes(), weights[8:data], weights[data:]

    def write(self, data: bytes) -> Path:
        config, header, values = split(data, self.parts)
        folder = self.folder / "folder"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_bytes(config)
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values)
        return folder


class Latent(_Folder):
    """A latent folder on its way into a packed one."""

    def seeds(self):
        sound = self.pieces(latent_folder(self.folder / "sound", SMALL, dtype="bfloat16"))
        yield join(*sound)
        yield join(DEEP, *sound[1:])

    def read(self, data):
        folder = self.write(data)
        read_latent(folder)
        pack(folder, self.folder / "packed")


class Packed(_Folder):
    """A packed folder on its way into the engine, its checksum right or, as a forger could make it, passed over."""

    def seeds(self):
        latent = latent_folder(self.folder / "sound", SMALL)
        for embeddings in ("int8", "bf16"):
            pack(latent, self.folder / embeddings, embeddings=embeddings)
            yield join(*self.pieces(self.folder / embeddings))

    def read(self, data):
        folder = self.write(data)
        with suppress(UnmulError):
            PackedCheckpoint.open(folder)
        engine = CpuEngine(PackedCheckpoint.open(folder, verify=False), threads=1)
        engine.forward([0, engine.config.vocab_size - 1], engine.new_state())


class TokenizerFile(Target):
    """A tokenizer.json: loaded for a model and for training, asked for ids and for text."""

    def seeds(self):
        save_tokenizer(train_tokenizer(SENTENCES, 300), self.folder, 0)
        whole = (self.folder / "tokenizer.json").read_bytes()
        yield whole
        yield self.with_few_tokens(json.loads(whole))

    def with_few_tokens(self, file: dict) -> bytes:
        """One that cuts and pads, and is small enough to be changed all over."""
        vocabulary = {name: k for k, name in enumerate(["<|endoftext|>", *"abcdeĠé"])}
        file["model"] |= {"vocab": vocabulary, "merges": [], "unk_token": "a"}
        file["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
        file["padding"] = {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
        }  # fmt: skip
        return json.dumps(file).encode()

    def read(self, data):
        (self.folder / "tokenizer.json").write_bytes(data)
        with suppress(UnmulError):
            self.write_text(ModelConfig(vocab_size=300))
        tokenizer = load_tokenizer(self.folder / "tokenizer.json")
        end = end_id(tokenizer)
        assert end < vocabulary_size(tokenizer)
        list(encode_all(tokenizer, SENTENCES))

    def write_text(self, config: ModelConfig) -> None:
        """Read a text and write it again, token by token."""
        tokenizer = folder_tokenizer(self.folder, config)
        ids = encode(tokenizer, " ".join(SENTENCES), begin=config.begin_token_id)
        assert all(0 <= token < config.vocab_size for token in ids)
        stream = TextStream(tokenizer, ids[:1], ["zz"])
        for token in [*ids[:20], config.vocab_size - 1]:
            stream.push(token)


class Request(Target):
    """A request to the server: method, address and headers, then the body. Its answer is never an error of ours."""

    parts = 2
    limits = Limits(slots=2, prompt_tokens=64, new_tokens=4, body_bytes=10_000, ping_s=1)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        model = chatting(speaking_packed(folder / "packed"), folder / "parrot")
        self.app = create_app(lambda: open_service(model, threads=1, limits=self.limits), limits=self.limits)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.start())

    async def start(self) -> None:
        """Wait until the model is loaded."""
        await self.app.router.lifespan_context(self.app).__aenter__()
        while self.app.state.service is None:
            await asyncio.sleep(0.01)

    def seeds(self):
        sampling = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 1, "stop": ["a"], "n": 2, "max_tokens": 3}
        options = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        completion = {"model": None, "prompt": ["Once", "upon"], "logprobs": 2, "echo": True} | sampling
        message = {"role": "user", "content": [{"type": "text", "text": "Once"}]}
        chat = {"messages": [message], "logprobs": True, "top_logprobs": 2} | sampling
        for name, body in (("completions", completion), ("chat/completions", chat)):
            for document in (body, body | options):
                yield self.written(f"POST /v1/{name}", document)
        yield self.written("POST /v1/completions", {"prompt": [5, 9], "session": "tale", "best_of": 1, "max_tokens": 2})
        yield self.written("POST /v1/sessions/tale/stop", {})
        yield self.written("GET /v1/models/parrot", {})

    def written(self, first: str, body: dict) -> bytes:
        """A request in the form of an input."""
        return join(f"{first}\ncontent-type: application/json".encode(), json.dumps(body).encode())

    def read(self, data):
        status = self.loop.run_until_complete(self.ask(*split(data, self.parts)))
        assert status < 500, status

    async def ask(self, head: bytes, body: bytes) -> int:
        """The status of the answer, once all of that has been sent."""
        (first, *lines), sent = head.split(b"\n"), []
        method, _, path = first.decode("latin-1").partition(" ")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(messages, None) or await asyncio.Event().wait()  # the client stays

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent[0]["status"]


class Listing(Target):
    """An assembler listing: what it says stays the same through listings and images."""

    def seeds(self):
        for operations in programs():
            yield isa.disassemble(operations).encode()
        yield b"set s0, mantissa=0x8000, exponent=-0b11 ; a comment\n\nhalt decode"
        yield b"loop count=0x" + b"f" * 4000  # more digits than Python writes in base ten

    def read(self, data):
        program = isa.assemble(data.decode("utf-8", "replace"))
        assert isa.read_program(isa.write_program(program)) == program
        listing = isa.disassemble(program)
        assert isa.assemble(listing) == program
        assert isa.disassemble(isa.assemble(listing)) == listing


class Program(Target):
    """A program image, whose listing gives the same bytes again."""

    def seeds(self):
        yield from map(isa.write_program, programs())

    def read(self, data):
        program = isa.read_program(data)
        assert isa.write_program(isa.assemble(isa.disassemble(program))) == data


def programs() -> Iterator[list[isa.Operation]]:
    """One that a model is compiled to, and one of every instruction with its largest values."""
    yield plan_model(zero_checkpoint(SMALL), choose_parameters(SMALL, BOARDS["sim"])).program
    largest = {name: field.bounds.stop - 1 for name, field in isa.FIELDS.items()}
    table = isa.INSTRUCTIONS.items()
    yield [isa.Operation(name, {field: largest[field] for field in each.fields}, True) for name, each in table]


TARGETS: dict[str, type[Target]] = {
    "tensors": Tensors, "latent": Latent, "packed": Packed, "tokenizer": TokenizerFile, "listing": Listing,
    "program": Program, "request": Request,
}  # fmt: skip


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for a target, in memory where the system has one there."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="unmul-fuzz-", dir=memory if memory.is_dir() else None)

"""The page of tools/web.py in a headless Chromium without a network: the text and the bits of the native engine."""

import base64
import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import pytest
from clibrary import REPOSITORY, alone
from speakers import SPEAKER, speaking_packed

import unmul
from unmul import SamplingParams
from unmul.checkpoint import PackedCheckpoint
from unmul.engine.cpu import CpuEngine
from unmul.runtime.model import embedded_model

pytestmark = pytest.mark.slow  # the engine is compiled twice, and before the first time a C++ library

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BUILD = REPOSITORY / "build" / "web"
PHONE = {"width": 360, "height": 640}
PLAIN_SIMD = "WebAssembly.validate = () => false"
KERNEL_TEST = (
    "activations", "arena", "errors", "layout", "pool_alone", "kernels/dispatch", "kernels/scalar", "kernels/wasm_simd",
    "tests/kernels",
)  # fmt: skip
# Runs a program of C, and returns its exit status and what it printed.
RUN_PROGRAM = """async binary => {
  let memory, printed = "";
  const word = at => new DataView(memory.buffer).getUint32(at, true);
  const system = {
    args_sizes_get: () => 0, args_get: () => 0, environ_get: () => 0,
    environ_sizes_get: () => 0, fd_close: () => 0, fd_seek: () => 0, fd_fdstat_get: () => 0,
    fd_write(file, parts, count, written) {
      let size = 0;
      for (let k = 0; k < count; ++k) {
        const bytes = new Uint8Array(memory.buffer, word(parts + 8 * k), word(parts + 8 * k + 4));
        printed += new TextDecoder().decode(bytes);
        size += bytes.length;
      }
      new DataView(memory.buffer).setUint32(written, size, true);
      return 0;
    },
    proc_exit(status) { throw status; },
  };
  const bytes = Uint8Array.from(atob(binary), letter => letter.charCodeAt(0));
  const {instance} = await WebAssembly.instantiate(bytes, {wasi_snapshot_preview1: system, unmul: {fail() {}}});
  memory = instance.exports.memory;
  let status = 0;
  try { instance.exports._start(); } catch (thrown) { status = thrown; }
  return [status, printed.split("\\n")];
}"""


def load_tool():
    """tools/web.py as a module."""
    pytest.importorskip("ziglang")
    spec = importlib.util.spec_from_file_location("web", REPOSITORY / "tools" / "web.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="module")
def tool():
    return load_tool()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(browser, tool, tmp_path_factory):
    """The page around the embedded model, as a file."""
    return page_of(tool, embedded_model(), tmp_path_factory.mktemp("web"))


def page_of(tool, model, folder):
    with alone(BUILD):
        modules = tool.modules(BUILD)
    path = folder / "unmul.html"
    path.write_text(tool.page(model, modules), "utf-8")
    return path.as_uri()


@pytest.fixture(params=["relaxed", "plain"])
def page(browser, address, request):
    """The page, greedy, with and without relaxed SIMD; a complaint or a request to elsewhere fails the test."""
    yield from opened(browser, address, "" if request.param == "relaxed" else PLAIN_SIMD)


def opened(browser, address, script="", **options):
    context = browser.new_context(**options)
    context.set_offline(True)
    page = context.new_page()
    page.add_init_script(script)
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator("#write:enabled").wait_for()
    page.get_by_text("Settings").click()
    page.get_by_label("Temperature").fill("0")
    yield page
    context.close()
    assert complaints == []
    assert [found for found in asked if found != address and not found.startswith("data:")] == []


def write(page, words, tokens):
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_label("Your words").fill(words)
    page.get_by_role("button", name="Write").click()
    finished(page)


def finished(page):
    page.locator("#text[aria-busy=false]").wait_for()
    page.locator("#write:enabled").wait_for()


def text_of(page):
    return page.get_by_role("log").text_content()


def natives_own(prompt, tokens, **sampling):
    model = unmul.load(threads=1)
    return prompt + "".join(model.generate(prompt, max_new_tokens=tokens, sampling=SamplingParams(**sampling)))


def test_it_writes_what_the_native_engine_writes_and_goes_on_without_a_gap(page):
    write(page, "Once upon a time", 80)
    assert text_of(page) == natives_own("Once upon a time", 80, temperature=0)
    page.get_by_role("button", name="Continue").click()
    finished(page)
    assert text_of(page) == natives_own("Once upon a time", 160, temperature=0)
    assert page.locator("#state").text_content() == "61.4 kB"
    assert page.locator("#length").text_content() == "165 tokens"
    assert float(page.locator("#speed").text_content().split()[0].replace(",", "")) > 0


def test_its_logits_are_the_native_engines_to_the_bit(page):
    assert_logits_are_the_native_engines(page, embedded_model())


@pytest.mark.parametrize("script", ["", PLAIN_SIMD], ids=["relaxed", "plain"])
def test_a_wider_token_mixer_gives_the_native_engines_logits_too(browser, tool, tmp_path, script):
    model = speaking_packed(tmp_path / "wide", replace(SPEAKER, expand_ratio=2))
    for page in opened(browser, page_of(tool, model, tmp_path), script):
        assert_logits_are_the_native_engines(page, model)
        assert page.evaluate("engine.info.stateValues") == 2 * 128
        write(page, "Once", 5)
        assert page.locator("#state").text_content() == "1.02 kB"


def assert_logits_are_the_native_engines(page, model):
    native = CpuEngine(PackedCheckpoint.open(model))
    ids = np.random.default_rng(0).integers(0, native.config.vocab_size, 300).tolist()
    raw = page.evaluate(
        """ids => {
          engine.begin();
          engine.read(ids);
          return Array.from(engine.bytes(engine.logits, 4 * engine.info.vocabulary));
        }""",
        ids,
    )
    assert bytes(raw) == native.forward(ids, native.new_state()).tobytes()
    assert page.evaluate("engine.info.weightBytes") == native.weight_bytes


def test_a_seed_draws_the_same_text_again(page):
    page.get_by_label("Temperature").fill("0.8")
    page.get_by_label("Seed").fill("7")
    write(page, "The fox", 40)
    first = text_of(page)
    page.get_by_role("button", name="New text").click()
    assert text_of(page) == ""
    write(page, "The fox", 40)
    assert text_of(page) == first
    assert len(first) > len("The fox")


def test_escape_stops_it_and_settings_that_cannot_work_are_told(page):
    page.get_by_label("Most tokens").fill("1000000")
    page.get_by_label("Your words").fill("Once")
    page.keyboard.press("Control+Enter")
    page.locator(".models").wait_for()
    page.keyboard.press("Escape")
    finished(page)
    page.get_by_label("Top p").fill("7")
    write(page, "Once", 3)
    assert page.get_by_role("alert").text_content() == "top_p must be more than 0 and at most 1"
    page.get_by_label("Top p").fill("1")
    write(page, "Once", 3)
    assert page.locator("#error").text_content() == ""


def test_what_it_writes_is_text_and_no_markup(page):
    write(page, "<img src=x onerror=alert(1)> déjà vu 中 \U0001f600", 5)
    assert page.locator("#text img").count() == 0
    assert text_of(page).startswith("<img src=x onerror=alert(1)> déjà vu 中 \U0001f600")


def test_damaged_weights_are_refused_in_the_engines_words(page):
    problem = page.evaluate("""async () => {
      const [binary, config, weights, tokenizer] =
        await Promise.all([files.plain, files.config, files.weights, files.tokenizer].map(unpacked));
      weights[weights.length >> 1] ^= 1;
      return Engine.open(binary, {config, weights, tokenizer}).then(() => "opened", error => error.message);
    }""")
    assert problem.startswith("the model is damaged")


def test_it_fits_a_phone(browser, address):
    for page in opened(browser, address, viewport=PHONE, has_touch=True):
        write(page, "Once upon a time " * 20, 5)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for button in page.get_by_role("button").all():
            assert button.bounding_box()["height"] >= 44


@pytest.mark.parametrize(("simd", "table"), [("plain", "wasm_simd"), ("relaxed", "wasm_relaxed_simd")])
def test_kernels_equal_plain_loops_and_scalar(browser, tool, simd, table):
    program = base64.b64encode(tool.compiled(simd, KERNEL_TEST)).decode()
    page = browser.new_page()
    assert page.evaluate(RUN_PROGRAM, program) == [0, ["scalar", table, ""]]
    page.close()

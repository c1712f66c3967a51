"""The page in a headless Chromium: it writes, stops, goes on, and works with a keyboard, on a phone and in the dark."""

import re
import shutil

import httpx
import pytest
from servers import Joulemeter, chatting, serving, settled, slowed

import unmul
from unmul import SamplingParams
from unmul.serve.service import Limits

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = {"width": 360, "height": 640}


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
def plain(speaker, tmp_path_factory):
    """A server of a model of plain text."""
    with serving(speaker, limits=Limits(drain_s=0)) as served:
        yield served


@pytest.fixture
def page(browser, plain):
    """The page, greedy, when it has met its model; any complaint of the browser fails the test."""
    yield from opened(browser, plain[0])


def opened(browser, url, **options):
    context = browser.new_context(**options)
    page = context.new_page()
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.locator("#write:enabled").wait_for()
    page.get_by_text("Settings").click()
    page.get_by_label("Temperature").fill("0")
    yield page
    context.close()
    assert [line for line in complaints if "the server responded with a status of 400" not in line] == []
    assert all(address.startswith((url, "data:")) for address in asked)


def write(page, words, tokens=12):
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_label("Your words").fill(words)
    page.get_by_role("button", name="Write").click()
    finished(page)


def finished(page):
    page.locator("#text[aria-busy=false]").wait_for()
    page.locator("#write:enabled").wait_for()


def text_of(page):
    return page.get_by_role("log").text_content()


def models_own(folder, prompt, tokens):
    greedy = SamplingParams(temperature=0)
    return prompt + "".join(unmul.load(folder, threads=1).generate(prompt, max_new_tokens=tokens, sampling=greedy))


def test_it_writes_and_goes_on_as_the_model_does_without_a_pause(page, speaker):
    write(page, "One by one")
    assert text_of(page) == models_own(speaker, "One by one", 12)
    page.get_by_role("button", name="Continue").click()
    finished(page)
    assert text_of(page) == models_own(speaker, "One by one", 24)
    assert page.locator(".yours").text_content() == "One by one"


def test_a_stopped_text_goes_on_without_a_gap(page, plain, speaker, monkeypatch):
    monkeypatch.setattr(plain[1].service.engine, "step", slowed(plain[1], 0.02))
    page.get_by_label("Most tokens").fill("8000")
    page.get_by_label("Your words").fill("One")
    page.get_by_role("button", name="Write").click()
    page.locator(".models").wait_for()
    page.get_by_role("button", name="Stop").click()
    finished(page)
    stopped = text_of(page)
    page.get_by_label("Most tokens").fill("5")
    page.get_by_role("button", name="Continue").click()
    finished(page)
    assert len(text_of(page)) > len(stopped)
    assert models_own(speaker, "One", 500).startswith(text_of(page))


def test_figures_compare_the_state_with_a_cache_that_grows(page):
    write(page, "One by one", tokens=9)
    length = int(page.locator("#length").text_content().split()[0])
    assert length > 9
    assert page.locator("#state").text_content() == "512 B"
    cache = length * 2 * 2 * 64 * 2
    assert page.locator("#cache").text_content() == f"{cache / 1000:.3g} kB"
    assert float(page.locator("#cache-meter").get_attribute("value")) == cache
    assert re.fullmatch(r"[\d.,]+ tokens/s", page.locator("#speed").text_content())
    page.get_by_role("button", name="Continue").click()
    finished(page)
    assert page.locator("#state").text_content() == "512 B"
    assert int(page.locator("#length").text_content().split()[0]) == length + 9


@pytest.mark.parametrize(
    ("each", "shown"),
    [(0.01234, "12.3 mJ/token"), (0.2, "200 mJ/token"), (123.4, "123 J/token"), (None, "\u2013")],
)
def test_joules_a_token_are_shown_where_they_are_measured(page, plain, monkeypatch, each, shown):
    monkeypatch.setattr(plain[1].service, "meter", Joulemeter())
    monkeypatch.setattr("unmul.serve.joules.Joules.per_token", lambda spent: each)
    page.evaluate("meet()")
    write(page, "One", tokens=3)
    assert page.locator("#energy").text_content() == shown


def test_energy_that_is_not_measured_is_no_number(page, plain, monkeypatch):
    monkeypatch.setattr(plain[1].service, "meter", Joulemeter(measured=False))
    page.evaluate("meet()")
    write(page, "One", tokens=3)
    assert page.locator("#energy").text_content() == "not measured"
    assert page.locator("#energy").get_attribute("title") == "no counter here"


def test_everything_can_be_done_with_the_keyboard(page, plain, monkeypatch):
    monkeypatch.setattr(plain[1].service.engine, "step", slowed(plain[1], 0.02))
    page.get_by_label("Most tokens").fill("8000")
    page.get_by_label("Your words").focus()
    page.keyboard.type("One")
    page.keyboard.press("Control+Enter")
    page.locator(".models").wait_for()
    page.keyboard.press("Escape")
    finished(page)
    before = text_of(page)
    page.get_by_label("Most tokens").fill("3")
    page.keyboard.press("Alt+Enter")
    settled(lambda: page.evaluate("document.getElementById('text').textContent.length") > len(before))
    finished(page)
    page.get_by_label("Your words").focus()
    seen = []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert seen == ["write", "continue", "new", "SUMMARY"]


def test_a_screen_reader_finds_names_and_is_told_of_the_text_when_it_is_whole(page, plain, monkeypatch):
    monkeypatch.setattr(plain[1].service.engine, "step", slowed(plain[1], 0.02))
    log = page.get_by_role("log", name="The text")
    assert log.get_attribute("aria-live") == "polite"
    for name in ("Temperature", "Top p", "Top k, 0 for all", "Most tokens", "Seed, empty for any", "API key"):
        assert page.get_by_label(name, exact=True).count() == 1
    page.get_by_label("Your words").fill("One")
    page.get_by_role("button", name="Write").click()
    page.locator(".models").wait_for()
    assert log.get_attribute("aria-busy") == "true"
    page.get_by_role("button", name="Stop").click()
    finished(page)
    assert log.get_attribute("aria-busy") == "false"


def test_an_error_is_told_in_the_servers_words_and_the_page_goes_on(page):
    page.get_by_label("Top p").fill("7")
    write(page, "One by one")
    assert page.get_by_role("alert").text_content() == "top_p: Input should be less than or equal to 1"
    page.get_by_label("Top p").fill("1")
    write(page, "One by one")
    assert page.locator("#error").text_content() == ""


def test_a_new_text_begins_at_nothing(page, speaker):
    write(page, "The sun rose")
    page.get_by_role("button", name="New text").click()
    assert text_of(page) == ""
    write(page, "One by one")
    assert text_of(page) == models_own(speaker, "One by one", 12)


def test_what_the_model_writes_is_text_and_no_markup(page):
    write(page, "<img src=x onerror=alert(1)><b>bold</b>")
    assert page.locator("#text img, #text b").count() == 0
    assert text_of(page).startswith("<img src=x onerror=alert(1)><b>bold</b>")


def test_it_fits_a_phone_and_its_buttons_fit_a_thumb(browser, plain):
    for page in opened(browser, plain[0], viewport=PHONE, has_touch=True):
        write(page, "Once upon a time " * 20)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for button in page.get_by_role("button").all():
            assert button.bounding_box()["height"] >= 44


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_text_has_contrast_by_day_and_by_night(browser, plain, scheme):
    for page in opened(browser, plain[0], color_scheme=scheme):
        write(page, "One by one")
        sheet = brightness(page, "#text", "backgroundColor")
        assert (sheet > 0.5) == (scheme == "light")
        for place in (".yours", ".models"):
            ink = brightness(page, place, "color")
            assert (max(ink, sheet) + 0.05) / (min(ink, sheet) + 0.05) >= 4.5  # WCAG 2.2, AA


def brightness(page, place, style):
    """Relative luminance of an element's colour."""
    colour = page.locator(place).first.evaluate(f"element => getComputedStyle(element).{style}")
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_model_with_a_template_is_talked_with(browser, speaker, tmp_path):
    with serving(chatting(speaker, tmp_path / "parrot")) as (url, _):
        for page in opened(browser, url):
            write(page, "Who sang?", tokens=6)
            first = page.locator(".models").text_content()
            write(page, "Why?", tokens=6)
            turns = [("user", "Who sang?"), ("assistant", first), ("user", "Why?")]
            messages = [{"role": role, "content": content} for role, content in turns]
            body = {"messages": messages, "max_tokens": 6, "temperature": 0}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()
            assert page.locator(".models").last.text_content() == answer["choices"][0]["message"]["content"]
            assert page.get_by_role("button", name="Continue").is_disabled()


def test_a_server_with_a_key_is_asked_with_the_key(browser, speaker):
    with serving(speaker, key="secret") as (url, _):
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("alert").get_by_text("API key is missing or wrong").wait_for()
        page.get_by_label("API key").fill("secret")
        page.locator("#write:enabled").wait_for()
        page.get_by_label("Temperature").fill("0")
        write(page, "One by one")
        assert text_of(page) == models_own(speaker, "One by one", 12)
        page.close()


def test_the_policy_forbids_everything_that_the_page_does_not_bring(plain):
    response = httpx.get(plain[0])
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://", response.text)

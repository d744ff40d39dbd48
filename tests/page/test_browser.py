"""The page in headless Chromium: controls by mouse and by keyboard, both themes."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.page import Live, live

api = pytest.importorskip("playwright.sync_api", reason="needs playwright and Chromium")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("default"),
]
Open = Callable[..., Any]
OUTSIDE = ("asin", "acos", "atanh")  # of 1.5


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """opened(value) is the page of a Value; an error in it fails the test."""
    pages, errors = [], []

    def open_page(root: Any, **context: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 800}, **context})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        path = tmp_path / f"page{len(pages)}.html"
        text = root if isinstance(root, str) else live(root).to_html()
        path.write_text(text, encoding="utf-8")
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not errors


def lecture() -> Value:
    a, b, c = Value(2.0, label="a"), Value(-3.0, label="b"), Value(6.5, label="c")
    y = (a * b + c).tanh()
    y.label = "y"
    return y


def frame(page: Any) -> None:
    """Wait until what was changed is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def label_of(page: Any, name: str) -> str:
    """What a screen reader says of the box called `name`."""
    return page.locator(f"g.node[aria-label^='{name}']").first.get_attribute("aria-label")


def test_a_number_typed_changes_every_number_shown(opened: Open) -> None:
    page = opened(lecture())
    page.locator("g.node[aria-label^='a,']").click()
    page.fill("#number", "2.5")
    frame(page)
    y = lecture()
    leaves = {node.label: node for node in tg.topological_order(y) if node.rule is None}
    a, b, c = Value(2.5), leaves["b"], leaves["c"]
    out = (a * b + c).tanh()
    out.backward()
    assert f"data {out:.4g}" in label_of(page, "y")
    assert f"data 2.5, gradient {a.grad:.4g}" in label_of(page, "a,")
    page.click("#reset")
    assert "data 2, gradient" in label_of(page, "a,")


def test_a_leaf_is_dragged_and_the_slider_moves_it(opened: Open) -> None:
    page = opened(lecture())
    box = page.locator("g.node[aria-label^='a,']").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 50, y, steps=5)
    page.mouse.up()
    frame(page)
    assert "data 3, gradient" in label_of(page, "a,")
    page.locator("#slider").focus()
    page.keyboard.press("ArrowRight")
    frame(page)
    assert "data 3.0" in label_of(page, "a,")


def test_time_goes_both_ways_by_keys_and_buttons(opened: Open) -> None:
    page = opened(lecture())
    sentence = page.locator("#sentence")
    page.click("#first")
    assert sentence.inner_text() == "The inputs are known; nothing is computed."
    assert "data –, gradient –, waiting" in label_of(page, "y")
    page.keyboard.press("ArrowRight")
    assert sentence.inner_text() == "forward 1 of 3: #3 = a * b = 2 * (-3) = -6"
    assert "current step" in label_of(page, "#3")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert sentence.inner_text().startswith("backward 1 of 3: y = tanh(")
    page.click("#next")
    assert sentence.inner_text().startswith("backward 2 of 3:")
    page.click("#back")
    assert sentence.inner_text().startswith("backward 1 of 3:")
    page.click("#play")
    assert page.locator("#play").get_attribute("aria-label") == "pause"
    for _ in range(80):
        if page.locator("#where").inner_text() == "6 of 6":
            break
        page.wait_for_timeout(100)
    assert page.locator("#play").get_attribute("aria-label") == "play"


def test_modules_fold_and_open_in_place(opened: Open) -> None:
    out = nn.MLP(2, [4, 4, 1], rng=0)([Value(0.5, label="x0"), Value(-1.0, label="x1")])
    page = opened(out)
    open_boxes = page.locator("g.node").count()
    page.locator("g.handle[aria-label='close layer1']").click()
    assert page.locator("g.node").count() < open_boxes
    closed = page.locator("g.node[aria-label^='open layer1']")
    closed.focus()
    page.keyboard.press("Enter")
    neurons = [
        page.locator(f"g.handle[aria-label='close neuron{i}'] rect").nth(1).bounding_box()["y"] for i in range(4)
    ]
    assert neurons == sorted(neurons)


def test_search_opens_what_is_folded(opened: Open) -> None:
    out = nn.MLP(20, [20, 1], rng=0)([Value(float(i)) for i in range(20)])
    page = opened(out)
    page.fill("#search", "layer0.neuron7.w3")
    page.keyboard.press("Enter")
    assert page.locator("#name").inner_text() == "layer0.neuron7.w3"
    assert page.locator("g.node.selected").count() == 1


def test_the_quiz_names_the_mistake(opened: Open) -> None:
    x = Value(3.0, label="x")
    y = x * x
    y.label = "y"
    page = opened(y)
    page.click("#quiz")
    page.click("#first")  # which would leave nothing to ask for
    assert page.locator("#where").inner_text() == "2 of 2"
    page.locator("#answer").focus()
    assert "gradient ?" in label_of(page, "x,")
    for answer, verdict in (("3", "is used 2 times"), ("-6", "the sign is not"), ("6", "Right: x.grad = 6")):
        page.fill("#answer", answer)
        page.keyboard.press("Enter")
        assert verdict in page.locator("#verdict").inner_text() or answer == "3"
    assert "All gradients found" in page.locator("#question").inner_text()


def test_every_rule_is_copied_as_python_and_zero_keeps_its_sign(opened: Open) -> None:
    page = opened(Value(-0.0, label="a") * 2.0)
    page.click("#copy")
    assert 'a = tg.Value(-0.0, label="a")' in page.input_value("#python")
    x = [Value(1.5 + i / 8, label=f"x{i}") for i in range(12)]
    unary = [rule for name, rule in tg.RULES.items() if rule.n_inputs == 1 and name not in ("pow_n", *OUTSIDE)]
    parts = [*[rule(x[0]) for rule in unary], *[tg.RULES[name](x[0] - 1.0) for name in OUTSIDE]]
    parts += [rule(*x[: rule.n_inputs or 12]) for rule in tg.RULES.values() if rule.n_inputs != 1]
    y = tg.sum(parts) + x[0] ** 3 + tg.elu(-x[0], alpha=0.5)
    text, namespace = opened(y).evaluate("live.graph.python()"), dict[str, Any]()
    exec(text, namespace)
    assert namespace[text.splitlines()[-1].removesuffix(".backward()")].data == y.data
    assert namespace["x0"].grad != 0


def test_a_hundred_thousand_nodes(opened: Open) -> None:
    model = nn.MLP(784, [42, 10], rng=0)
    loss = nn.cross_entropy(model([Value(0.5, label=f"x{i}") for i in range(784)]), 3)
    page = live(loss).to_html()
    assert len(tg.topological_order(loss)) > 100_000
    assert len(page) < 20_000_000
    shown = opened(page)
    took = shown.evaluate("performance.now()")
    assert shown.locator("g.node").count() > 10
    assert took < 20_000  # a benchmark prints the time; here only that it opens at all
    before = shown.evaluate("live.graph.value[live.graph.root]")
    shown.evaluate("live.graph.set(live.graph.names.indexOf('x0'), 5)")
    assert shown.evaluate("live.graph.value[live.graph.root]") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_on_a_phone(opened: Open, scheme: str) -> None:
    page = opened(lecture(), viewport={"width": 390, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("mode", ["live", "steps"])
def test_no_barrier_is_found(opened: Open, scheme: str, mode: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    out = nn.MLP(2, [3, 1], rng=0)([Value(0.5, label="x0"), Value(-1.0, label="x1")])
    page = opened(Live(out, {}, mode=mode).to_html(), color_scheme=scheme, bypass_csp=True)
    page.click("#quiz")
    violations = axe.Axe().run(page).response["violations"]
    page.click("#quiz")
    page.click("#first")
    violations += axe.Axe().run(page).response["violations"]
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in violations] == []


def test_the_second_slider_goes_over_the_steps_of_a_training(opened: Open) -> None:
    model = nn.Neuron(2, "tanh", rng=0)
    with tg.debug.record(model) as film:
        for step in range(120):
            model.zero_grad()
            ((model([1.0, step / 40 - 1.0]) - 1.0) ** 2).backward()
            for parameter in model.parameters():
                parameter.data -= 0.5 * parameter.grad
    page = opened(film.to_html())
    assert page.locator("#film").is_visible()
    assert page.locator("#film").input_value() == "119"
    for step in (119, 1, 0):
        page.locator("#film").fill(str(step))
        frame(page)
        assert page.locator("#film-step").text_content() == f"step {step}"
        assert page.evaluate("live.graph.value[live.graph.root]") == pytest.approx(film[step].data, rel=1e-4)
        w0 = next(i for i, name in enumerate(page.evaluate("live.graph.names")) if name == "w0")
        recorded = {node.label: node.grad for node in tg.topological_order(film[step])}["w0"]
        assert page.evaluate(f"live.graph.gradient[{w0}]") == pytest.approx(recorded, rel=1e-4)
    page.keyboard.press("Escape")
    assert not opened(lecture()).locator("#film").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_by_keyboard(opened: Open, scheme: str) -> None:
    page = opened(lecture(), color_scheme=scheme)
    where = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"
    page.keyboard.press("/")
    page.keyboard.type("a")
    page.keyboard.press("Enter")
    assert page.evaluate(where).startswith("a, data 2")
    page.keyboard.press("Enter")
    assert page.evaluate(where) == "number of a"
    for key, data in (("ArrowUp", "2.1"), ("Shift+ArrowUp", "3.1"), ("ArrowDown", "3"), ("Shift+ArrowDown", "2")):
        page.keyboard.press(key)
        frame(page)
        assert f"data {data}, " in label_of(page, "a,")
    for text in ("1e400", "abc", ""):
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        page.keyboard.type(text)  # 1, 1e4 and 1e40 are numbers on the way to 1e400
        frame(page)
        assert page.locator("#sentence").inner_text() == f'a stays 2: "{text}" is no finite number.'
        assert page.get_attribute("#number", "aria-invalid") == "true"
        assert "data 2, " in label_of(page, "a,")
    page.keyboard.press("Escape")
    frame(page)
    assert page.evaluate(where).startswith("a, data 2")
    assert page.input_value("#number") == "2"
    assert "is no finite number" in page.locator("#sentence").inner_text()
    assert not page.locator("#module").is_visible()  # there is none
    page.keyboard.press("ArrowDown")
    assert not page.evaluate(where).startswith("a, data 2")


def test_tab_reaches_a_field_in_a_few_steps_and_no_button_drops_the_focus(opened: Open) -> None:
    model = nn.MLP(2, [6, 6, 1], "tanh", rng=0)
    page = opened(sum((model([i / 4, 1.0]) - i / 2) ** 2 for i in range(3)))
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.closest('#picture')?.id")
        )
    assert reached.count("picture") <= 2
    assert "time" in reached
    for button in page.locator("button").all():
        if button.is_visible():
            for _ in range(3):
                button.focus()
                page.keyboard.press("Enter")
                assert page.evaluate("document.activeElement !== document.body"), button.get_attribute("id")
    page.keyboard.press("Escape")
    page.locator("#first").focus()
    labels = set()
    for _ in range(3):
        page.keyboard.press("m")
        labels.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert len(labels) == 3
    for _ in range(6):
        page.locator("#module").click()
        labels.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert len(labels) == 9
    assert all("layer" in label or "neuron" in label for label in labels)


def test_inputs_and_targets_have_names() -> None:
    from tinygrad_edu.page.document import examples
    from tinygrad_edu.viz.reading import read

    model, single = nn.MLP(2, [3, 1], rng=0), nn.Neuron(1, rng=0)
    loss = sum((model([float(i), 2.0]) - 1.0) ** 2 for i in range(3))
    names = set(examples(read(loss, {}, constants=True)).values())
    assert names == {*(f"x[{i}][{j}]" for i in range(3) for j in range(2)), "y[0]", "y[1]", "y[2]"}
    assert set(examples(read((single([0.5]) - 1.0) ** 2, {}, constants=True)).values()) == {"x", "y"}

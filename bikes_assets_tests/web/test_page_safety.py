"""Names, texts and addresses of people who mean harm: whatever they write is shown as text, nothing runs and nothing breaks."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from bikes_assets_tests.lineage.openlineage.foreign import column_lineage, dataset, event
from bikes_assets_tests.web.opened import NARROW, Opened, Served, needs_browser

pytestmark = needs_browser

PAYLOADS = (
    "<script>window.__hit=1</script>",
    "<img src=x onerror=window.__hit=1>",
    "<svg onload=window.__hit=1><animate onbegin=window.__hit=1 attributeName=x dur=1s>",
    "</title></text></svg><script>window.__hit=1</script>",
    '"><script>window.__hit=1</script>',
    "' onmouseover='window.__hit=1",
    '" autofocus onfocus="window.__hit=1',
    "javascript:window.__hit=1",
    "JaVaScRiPt:window.__hit=1//https://example.org",
    "data:text/html,<script>window.__hit=1</script>",
    "vbscript:window.__hit=1",
    "{{constructor.constructor('window.__hit=1')()}}",
    "${window.__hit=1}",
    "#{7*7}<%= 7*7 %>",
    "`${alert(1)}`",
    '\\"];window.__hit=1;//',
    "*/window.__hit=1/*",
    "</style><style>*{display:none!important}</style>",
    "}*{background:url(https://example.org/steal)}",
    "url(https://example.org/a.png)",
    "@import 'https://example.org/a.css'",
    "<iframe srcdoc='<script>parent.__hit=1</script>'></iframe>",
    "<base href=https://example.org/><a href=/x>x</a>",
    "<form action=https://example.org><button>x</button></form>",
    "<meta http-equiv=refresh content=0;url=https://example.org>",
    "\u202egpj.exe\u202c\u2066\u2067",
    "zero\u200bwidth\ufeff\u2028\u2029\u00ad",
    "nul\x01\x08\x1b[31mred\x7f\x85",
    "__proto__",
    "constructor",
    "a+b 1+x+1 +x+",
    "x:20:%00%2e%2e/../etc/passwd?&token=#",
    "e\u0301" * 12 + "\u0488" * 40,
    "👩‍👩‍👧‍👦🏴‍☠️ 名前 اسم ꙮ",
    "W" * 3_000,
    "long word " * 300,
    "x" * 200 + "[0]@1",
    "'; drop table thing; --",
    "=cmd|' /C calc'!A0",
    "<!--#exec cmd=ls--><![CDATA[<script>window.__hit=1</script>]]>",
)
HUB = "hub"
EVENTS = [
    event(
        f"run{number}",
        [HUB],
        [
            dataset(
                f"{number:02} {payload}",
                schema={"fields": [{"name": payload, "type": payload, "description": payload}]},
                documentation={"description": payload},
                ownership={"owners": [{"name": payload, "type": payload}]},
                columnLineage=column_lineage({payload: [(HUB, payload)]}),
            )
        ],
        job=f"{number:02} {payload}",
        facets={"sourceCodeLocation": {"type": "git", "url": payload}, "documentation": {"description": payload}},
    )
    for number, payload in enumerate(PAYLOADS)
]
WATCH = """window.__hit = 0;
for (const name of ['alert', 'confirm', 'prompt', 'open']) window[name] = () => { window.__hit = name; };
document.addEventListener('securitypolicyviolation', (event) => { window.__hit = event.blockedURI || event.violatedDirective; });
"""


@pytest.fixture
def watched(opened: Opened) -> Opened:
    """Return a page that notices whatever runs in it, and whatever the policy of its server has stopped."""
    opened.context.add_init_script(WATCH)
    return opened


def unharmed(opened: Opened) -> None:
    """Fail where something ran, or the page is not what it is."""
    page = opened.page
    assert page.evaluate("() => window.__hit") == 0
    foreign = (
        "main img:not([src^='data:']), iframe, script:not([src^='/static/']), style, base, body form:not(.ask), animate"
    )
    assert page.locator(foreign).count() == 0
    assert (
        page.evaluate("() => [...document.querySelectorAll('a')].filter(a => !/^(https?:|$)/.test(a.protocol)).length")
        == 0
    )
    wide, inner = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    expect(page.locator("header")).to_be_visible()
    assert page.evaluate("() => document.querySelector('header').getBoundingClientRect().height") < 120


def _hub(served: Served) -> str:
    return f"s3://elsewhere/{HUB}"


def test_names_and_texts_of_other_tools_are_text_wherever_they_are_drawn(watched: Opened) -> None:
    # Given all of them in one picture, their boxes opened
    hub = _hub(watched.served)
    picture = watched.served.ask("graph", focus=hub, show=f"0+{hub}+")
    names = [box["name"] for box in picture["boxes"]]
    assert len(names) > 2 * len(PAYLOADS)
    query = {"focus": hub, "show": f"0+{hub}+", "open": [name for name in names if len(name) < 200]}
    watched.page.goto(f"{watched.served.url}/?{urlencode(query, doseq=True)}")
    expect(watched.page.locator("#canvas .box")).to_have_count(len(names))
    expect(watched.page.locator("#canvas .column").nth(len(PAYLOADS))).to_be_attached()
    unharmed(watched)
    # Then no text of a box is wider than the box
    wide = watched.page.evaluate(
        """() => [...document.querySelectorAll('#canvas .box')].flatMap((box) => {
            const frame = box.querySelector('.frame').getBoundingClientRect();
            return [...box.querySelectorAll('.title, .about, .name')]
                .filter((text) => text.getBoundingClientRect().right > frame.right + 1)
                .map((text) => text.textContent.slice(0, 60));
        })"""
    )
    assert wide == []
    # Then signs that hide or turn a text are written as escapes
    shown = watched.page.locator("#canvas").text_content() or ""
    assert not {"\u202e", "\u2066", "\u200b", "\ufeff", "\x1b", "\x01", "\x00", "\u2028"} & {*shown}
    assert "\\u202e" in shown


def test_each_of_them_can_be_followed_expanded_and_hidden(watched: Opened) -> None:
    hub, served = _hub(watched.served), watched.served
    boxes = served.ask("graph", focus=hub, show=f"0+{hub}+")["boxes"]
    watched.go(focus="demand_model")
    for number in range(len(PAYLOADS)):
        titles = (f"s3://elsewhere/{number:02} ", f"elsewhere:{number:02} ")
        mine = {box["kind"]: box["name"] for box in boxes if box["title"].startswith(titles)}
        assert {*mine} == {"dataset", "job"}
        name = mine["dataset"]
        column = served.ask("overview", address=name)["columns"]["items"][0]["address"]
        view = {"focus": name, "column": column, "open": name, "show": f"1+{name}+1", "tab": "columns"}
        picture = watched.changing(lambda view=view: watched.turn(**view))
        assert {hub, *mine.values()} == {box["name"] for box in picture["boxes"]}
        expect(watched.box(name)).to_have_class("box dataset focused lit")
        assert column in watched.lit(), number
        expect(watched.page.locator("#panel h2")).to_contain_text(f"elsewhere/{number:02} ")
        unharmed(watched)
        if number % 3:  # every third one is expanded, too, and hidden again
            continue
        watched.changing(lambda job=mine["job"]: watched.turn(focus=job, show=f"0+{job}"))
        for count in (2, 1):
            expander = watched.box(mine["job"]).locator(".expander.downstream")
            picture = watched.changing(lambda expander=expander: expander.dispatch_event("click"))
            assert len(picture["boxes"]) == count, number
        unharmed(watched)


def test_words_that_are_searched_are_text_and_so_are_the_matches(watched: Opened) -> None:
    watched.go(focus="demand_model")
    search = watched.page.get_by_role("combobox", name="Search")
    for payload in PAYLOADS:
        with watched.page.expect_response(lambda answer: "/api/search" in answer.url):
            search.fill(payload[:400].replace("\x01", "") + " ")
    unharmed(watched)
    search.fill("window __hit")
    expect(watched.page.get_by_role("option").nth(3)).to_be_visible()
    unharmed(watched)


PARAMETERS = ("focus", "show", "open", "column", "until", "rows", "find", "as_of", "tab", "partition", "from", "select")


def test_parameters_of_an_address_are_text(watched: Opened) -> None:
    """Each parameter of the graph in turn, and all fields of a question."""
    page = watched.page
    for number, payload in enumerate(PAYLOADS):
        text, name = payload[:1_500], PARAMETERS[number % len(PARAMETERS)]
        query = {"focus": "demand_model", name: text} | ({"to": text} if name == "from" else {})
        if number < len(PARAMETERS):
            page.goto(f"{watched.served.url}/?{urlencode(query)}")
        else:
            watched.turn(**query)
        expect(page.locator("#canvas .box, #graph [role=alert]").first).to_be_attached()
        watched.settle()
        unharmed(watched)
        view = ("impact", "path", "trace", "diff")[number % 4]
        address = f"{text}#{text}" if view == "trace" else text  # what names no row is no question of a trace
        watched.turn(view=view, address=address, **dict.fromkeys(("start", "end", "a", "b"), text))
        expect(page.locator("#answer [role=alert]")).to_be_visible()
        unharmed(watched)


def test_an_unknown_view_is_the_graph(watched: Opened) -> None:
    for view in ("nothing", "__proto__", "constructor", "<script>"):
        watched.page.goto(f"{watched.served.url}/?{urlencode({'view': view, 'focus': 'demand_model'})}")
        expect(watched.box("demand_model")).to_be_visible()
        unharmed(watched)


def test_a_narrow_page_stays_narrow(served: Served, chromium) -> None:
    opened = Opened(served, chromium, viewport=NARROW)
    opened.context.add_init_script(WATCH)
    hub = _hub(served)
    names = [box["name"] for box in served.ask("graph", focus=hub, show=f"0+{hub}+")["boxes"] if len(box["name"]) > 100]
    assert len(names) > 3
    opened.go(focus="demand_model")
    for name in names:
        opened.changing(lambda name=name: opened.turn(focus=name))
        expect(opened.page.locator("#panel h2")).not_to_be_empty()
        expect(opened.page.locator("#canvas .box").first).to_be_attached()
        unharmed(opened)
    opened.go(view="impact", address=hub)
    unharmed(opened)
    opened.close()


def test_the_page_is_drawn_by_the_server_s_own_files_alone(watched: Opened) -> None:
    asked = set[str]()
    watched.context.on(
        "request", lambda request: asked.add(request.url.removeprefix(watched.served.url).partition("?")[0])
    )
    watched.go(focus="demand_model")
    files = {path for path in asked if not path.startswith("/api/")}
    assert files <= {"/", "/static/style.css", "/static/icon.svg"} | {
        f"/static/{name}.js"
        for name in ("main", "api", "dom", "graph", "panel", "questions", "search", "state", "tree")
    }
    for path in sorted(files - {"/"}):
        _, headers, text = watched.served.fetch(path)
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "").replace("/^https?:\\/\\//i", ""), path
        assert headers["Content-Type"].startswith(("text/", "image/svg", "application/javascript")), path

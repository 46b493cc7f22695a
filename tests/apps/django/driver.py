"""Django's admin as an editor uses it: sign in, list, add, change, search, delete, upload, download, sign out."""

import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "driver"))
from visit import By, run  # noqa: E402

VOLATILE = [
    (r"plan_\w+\.bin", "plan_RANDOM.bin"),
    (r'(?<=name="csrfmiddlewaretoken" value=")[^"]+', "TOKEN"),
    (r"(?<=csrftoken=|sessionid=)[^;]+", "SECRET"),
    (r"(?<=[Ee]xpires=)[^;]+", "DATE"),
    (r"\b(Jan|Feb|March|April|May|June|July|Aug|Sept|Oct|Nov|Dec)\.? \d+, \d{4}, [\d:]+ [ap]\.m\.", "TIME"),
]


def drive(visit):
    browser, note, page = visit.browser, visit.note, visit.page

    def fill(name, value):
        field = visit.shown(f"[name={name}]")
        field.clear()
        field.send_keys(value)

    def click(selector):
        """Clicks and waits until another document stands there."""
        before = visit.find("html")
        visit.shown(selector).click()
        visit.until(lambda b: b.find_element(By.TAG_NAME, "html") != before, "another page")

    # --- sign in, first with the wrong password
    visit.open("/admin/library/document/?q=plan")
    page("sent to the form")
    visit.cookies("before signing in")
    for password in ["wrong", "correct horse"]:
        fill("username", "editor")
        fill("password", password)
        click("#content [type=submit]")
        page(f"signed in with `{password}`", "#container")
    visit.cookies("signed in")

    # --- add, with a file of six megabytes, and an author from the pop-up window
    contents = hashlib.shake_256(b"plan").digest(6 << 20)
    upload = visit.work / "plan.bin"
    upload.write_bytes(contents)
    visit.open("/admin/library/document/add/")
    page("the empty form", "#content")
    fill("title", "Plan für 2027")
    window = browser.current_window_handle
    visit.shown("#add_id_author").click()
    visit.until(lambda b: len(b.window_handles) == 2, "the pop-up")
    browser.switch_to.window([handle for handle in browser.window_handles if handle != window][0])
    page("the pop-up")
    fill("name", "Ada Lovelace")
    visit.shown("[name=_save]").click()
    visit.until(lambda b: len(b.window_handles) == 1, "the end of the pop-up")
    browser.switch_to.window(window)
    note("the author that the pop-up handed over", visit.find("#select2-id_author-container").text)
    visit.shown(".field-published .datetimeshortcuts a").click()
    note("a date by its script", len(visit.shown("[name=published]").get_attribute("value")))
    fill("published", "2027-01-01")
    visit.find("[name=file]").send_keys(str(upload))
    click("[name=_save]")
    page("added", "#container")
    # --- a second one, with the author from the autocompletion, saved to go on
    visit.open("/admin/library/document/add/")
    fill("title", "Budget")
    visit.shown(".field-author .select2-selection").click()
    search = visit.shown(".select2-search__field")
    search.send_keys("love")
    visit.until(lambda b: [e.text for e in b.find_elements(By.CSS_SELECTOR, ".select2-results__option")] == ["Ada Lovelace"])
    visit.shown(".select2-results__option").click()
    visit.find("[name=file]").send_keys(str(upload))
    visit.shown("[name=confidential]").click()
    click("[name=_continue]")
    page("saved to go on", "#container")
    number = browser.current_url.split("/")[-3]

    # --- list, search, filter, sort, history, change
    for query in ["", "?q=ada", "?confidential__exact=1", "?o=-1", "?q=nothing", "?e=1"]:
        visit.open(f"/admin/library/document/{query}")
        page(f"the list {query}", "#container")
    visit.open(f"/admin/library/document/{number}/change/")
    fill("title", "Budget 2027")
    click("[name=_save]")
    page("changed", "#container")
    visit.open(f"/admin/library/document/{number}/history/")
    page("the history", "#content")

    # --- a form with a token that is not the session's: Django refuses, not we
    visit.open("/admin/library/author/add/")
    fill("name", "Nobody")
    browser.execute_script("document.querySelector('#content [name=csrfmiddlewaretoken]').value = 'x'.repeat(64)")
    click("[name=_save]")
    page("refused by Django")

    # --- downloads: whole, in ranges, as a browser resumes them
    visit.borrow_cookies()
    for headers in [{}, {"range": "bytes=0-99"}, {"range": "bytes=6291000-"}, {"range": "bytes=-1"}, {"range": "bytes=9999999-"}]:
        answer = visit.ask("GET", "/documents/1/", f"download {headers}", headers=headers)
        if not headers:
            note("the very bytes", answer.content == contents)
    visit.ask("HEAD", "/documents/1/")
    visit.ask("GET", "/documents/99/")

    # --- delete, with the page that asks
    visit.open(f"/admin/library/document/{number}/delete/")
    page("to be deleted?", "#container")
    click("#content [type=submit]")
    page("deleted", "#container")
    visit.open("/admin/library/document/")
    visit.shown("#action-toggle").click()
    visit.shown("[name=action] [value=delete_selected]").click()
    click("[name=index]")
    page("several to be deleted?", "#container")
    click("#content [type=submit]")
    page("all deleted", "#container")

    # --- another customer of the same site: no session there, and what is signed in sees other documents
    browser.get(visit.base.replace("acme", "globex") + "/admin/library/document/")
    fill("username", "editor")
    fill("password", "correct horse")
    click("#content [type=submit]")
    note("documents of the other customer", visit.find(".paginator").text)
    visit.open("/admin/jsi18n/")
    page("the catalogue of translations")

    # --- sign out
    visit.open("/admin/")
    click("#logout-form button")
    page("signed out")
    visit.cookies("signed out")
    visit.open("/admin/")
    page("the form again")

    # --- what programs ask
    visit.client.cookies.clear()
    seen = visit.client.get("/seen").json()
    note("what Django knows", seen | {"secure": seen["secure"] == visit.through})
    for method, path in [
        ("GET", "/old"),
        ("GET", "/nothing"),
        ("HEAD", "/nothing"),
        ("GET", "/admin"),
        ("GET", "/missing?a=1&b=%2F"),
        ("GET", "/export.csv"),
        ("HEAD", "/export.csv"),
        ("GET", "/documents/1/"),
        ("GET", "/admin/login/?next=/admin/"),
    ]:
        visit.ask(method, path)
    form = visit.client.get("/admin/login/").text
    style = form.split('rel="stylesheet" href="')[1].split('"')[0]
    first = visit.ask("GET", style)
    visit.ask("GET", style, "the same, compressed", headers={"accept-encoding": "gzip, br"})
    visit.ask("GET", style, "not modified", headers={"if-none-match": first.headers["etag"]})
    visit.ask("GET", style, "part of it", headers={"range": "bytes=10-19"})
    visit.ask("HEAD", style)


run(drive, VOLATILE)

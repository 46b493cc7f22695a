"""pgAdmin as a database administrator uses it: sign in, connect, walk the tree, run queries, upload, then every route."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "driver"))
from selenium.webdriver.common.keys import Keys  # noqa: E402
from visit import By, run  # noqa: E402

VOLATILE = [
    (r"(?<=pga4_session=)[^;]+", "SECRET"),
    (r"(?<=[Ee]xpires=)[^;]+ GMT", "DATE"),
    (r"'nonce-[^']+'", "'nonce-RANDOM'"),
    (r"sqleditor/(poll|panel)/\d+", r"sqleditor/\1/NUMBER"),
]

DIALOG = ".MuiDialog-container"


def drive(visit):
    browser, note = visit.browser, visit.note

    def tree():
        """The tree's entries that can be seen, with their depth, as they are written."""
        script = """return [...document.querySelectorAll('.file-entry')].map(entry =>
            [Number(entry.dataset.depth), entry.querySelector('.file-name').textContent,
             !!entry.querySelector('.directory-toggle.open')])"""
        return browser.execute_script(script)

    def toggle(label):
        # By a script: rows move while others are loaded, and a click by place would meet another.
        browser.execute_script(
            """for (const entry of document.querySelectorAll('.file-entry'))
                if (entry.querySelector('.file-name').textContent === arguments[0])
                    return entry.querySelector('.directory-toggle').click();""",
            label,
        )

    def descend(*path):
        """Opens entry after entry; a second time where the tree, still being built, dropped the first click."""
        clicked = {}

        def shown(child):
            entries = {name: is_open for _, name, is_open in tree()}
            if child in entries or browser.find_elements(By.CSS_SELECTOR, DIALOG):
                return True
            label = [name for name in path if name in entries][-1]
            patience = 15 if entries[label] else 4
            if time.monotonic() - clicked.get(label, -99) > patience:
                toggle(label)
                clicked[label] = time.monotonic()
            return False

        for child in path[1:]:
            visit.until(lambda _: shown(child), child)

    # --- sign in, with the wrong password first
    visit.open("/")
    for password in ["wrong-horse", "correct-horse"]:
        visit.shown("[name=email]").send_keys("dba@example.com")
        visit.shown("[name=password]").send_keys(password)
        visit.shown("[name=internal_button]").click()
        if password == "wrong-horse":
            note("refused", visit.until(lambda b: "Incorrect" in visit.find("body").text and "Incorrect"))
    visit.until(lambda b: b.current_url.endswith("/browser/"), "the browser")
    visit.cookies("signed in")
    visit.shown("[data-test=loggedin-username]")

    # --- connect to the server and walk down to a table
    visit.until(lambda b: tree(), "the tree")
    descend("Servers", "local", "Databases")
    visit.shown(".MuiDialog-container input[type=password]").send_keys("elephant")
    visit.shown("[data-test=save]").click()
    visit.until(lambda b: not b.find_elements(By.CSS_SELECTOR, DIALOG), "the connection")
    descend("Servers", "local", "Databases", "postgres", "Schemas", "public", "Tables", "animals", "Columns", "name")
    note("the tree", [entry[:2] for entry in tree()])

    # --- what the tabs say about the table
    def tab(label):
        browser.execute_script(
            "[...document.querySelectorAll('.dock-tab-btn')].find(e => e.textContent.trim() === arguments[0]).click()", label
        )

    def choose(label):
        browser.execute_script(
            "[...document.querySelectorAll('.file-name')].find(e => e.textContent === arguments[0]).click()", label
        )

    def created(_):
        """The table's statement; asked for again where the tab, still being made, has missed that the table was chosen."""
        nonlocal asked
        found = [e.text for e in browser.find_elements(By.CSS_SELECTOR, ".cm-content") if "CREATE TABLE" in e.text]
        if not found and time.monotonic() - asked > 4:
            for label in ["Columns", "animals"]:
                choose(label)
            tab("SQL")
            asked = time.monotonic()
        return found

    asked = -99
    note("SQL of the table", visit.until(created, "the SQL")[0].split("\n"))
    tab("Dashboard")

    # --- the query tool: rows, a message, an error
    visit.shown('button[data-label="Query Tool"]:not([disabled])').click()
    browser.switch_to.frame(visit.until(lambda b: b.find_element(By.TAG_NAME, "iframe")))
    grid = "return [...document.querySelectorAll('[role=grid] [role=gridcell]')].map((cell) => cell.textContent)"
    for query, wanted, row in [
        ("insert into animals values (3, '<b>newt</b>', 4) on conflict do nothing", "Query returned successfully", None),
        ("select name, legs from animals order by id", "Total rows: 3", "<b>newt</b>"),
        ("select * from unicorns", 'relation "unicorns" does not exist', None),
        ("select n, n * n from generate_series(1, 20000) n", "Total rows: 20000", "81"),
    ]:
        editor = visit.shown(".cm-content")
        editor.click()
        editor.send_keys(Keys.CONTROL, "a")
        editor.send_keys(query)
        editor.send_keys(Keys.ESCAPE)
        editor.send_keys(Keys.F5)
        visit.until(lambda b: wanted in b.find_element(By.TAG_NAME, "body").text, wanted)
        if row:
            # The grid draws itself again and again while it grows.
            visit.until(lambda b: row in b.execute_script(grid), row)
            note(f"query: {query}", [cell for cell in browser.execute_script(grid) if cell.strip()][:16])
        else:
            note(f"query: {query}", wanted)
    browser.switch_to.default_content()

    # --- psql in a terminal, by socket.io
    visit.shown('button[data-label="PSQL Tool"]:not([disabled])').click()
    browser.switch_to.frame(visit.until(lambda b: len(b.find_elements(By.TAG_NAME, "iframe")) == 2 and b.find_elements(By.TAG_NAME, "iframe")[1]))
    shows = lambda text: lambda b: text in b.find_element(By.CSS_SELECTOR, ".xterm-rows").text
    visit.until(shows("postgres=#"), "the prompt")
    # Key by key, each once the last is shown: pgAdmin's threads would mix them up.
    for number, key in enumerate("select 6*7;", 1):
        visit.find(".xterm-helper-textarea").send_keys(key)
        visit.until(shows(f"postgres=# {'select 6*7;'[:number]}".rstrip()), f"`{key}`")
    visit.find(".xterm-helper-textarea").send_keys(Keys.ENTER)
    visit.until(shows("(1 row)"), "the answer")
    note("psql", [line.strip() for line in visit.find(".xterm-rows").text.split("\n") if line.strip()][-6:])
    browser.switch_to.default_content()
    visit.screenshot("psql")

    # --- every route, in the browser's session: half of them by each version of HTTP
    routes = json.loads((Path(visit.options.work).parent / "routes.json").read_text())
    visit.borrow_cookies()
    # pgAdmin binds a session to address and browser.
    agent = browser.execute_script("return navigator.userAgent")
    visit.client.headers["user-agent"] = visit.second.headers["user-agent"] = agent
    visit.second.cookies = visit.client.cookies
    token = browser.execute_script("return pgAdmin.csrf_token")
    counts, began = {}, time.monotonic()
    for number, (method, path) in enumerate(routes):
        client = [visit.client, visit.second][number % 2]
        # What would change something has no token, and is refused by pgAdmin, which over TLS wants a Referer too.
        told = {"x-pga-csrftoken": token, "referer": f"{visit.base}/browser/"} if method == "GET" else {}
        answer = client.request(method, path, headers=told)
        kind = answer.headers.get("content-type", "").split(";")[0]
        note(f"{method} {path}", [answer.status_code, kind, answer.headers.get("location")])
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
    note("routes by status", {str(status): count for status, count in sorted(counts.items())})
    print(f"{len(routes)} routes in {time.monotonic() - began:.0f} s: {counts}", file=sys.stderr)

    # --- what never changes, byte by byte
    before = len(visit.steps)
    for path in ["/static/js/generated/app.bundle.js", "/static/js/generated/style.css", "/favicon.ico", "/static/missing.js"]:
        first = visit.ask("GET", path)
        if "etag" in first.headers:
            visit.ask("GET", path, f"{path} not modified", headers={"if-none-match": first.headers["etag"]})
        visit.ask("GET", path, f"{path} compressed", headers={"accept-encoding": "gzip, br"})
        visit.ask("GET", path, f"a part of {path}", headers={"range": "bytes=100-199"})
    # pgAdmin saves its session every ten seconds at most, and sets the cookie when it does.
    for step in visit.steps[before:]:
        step["headers"] = [field for field in step["headers"] if field[0] != "set-cookie"]

    # --- sign out: what the open pages still ask for then is refused or not, as it happens
    complaints = [line for line in visit.console() if "beforeunload" not in line]
    note("complaints", sorted(set(complaints)))
    visit.open("/logout?next=/browser/")
    visit.until(lambda b: "/login" in b.current_url, "the form")
    visit.cookies("signed out")
    visit.client.cookies.clear()
    for path in ["/", "/browser/", "/browser/nodes/", "/misc/ping", "/login"]:
        answer = visit.client.get(path)
        note(f"signed out: {path}", [answer.status_code, answer.headers.get("location")])
    visit.console()


run(drive, VOLATILE)

"""What tests of the first page share: things to drop and paste, and what has become of them."""

from urllib.parse import urlsplit

DROP = """([bytes, name, type, text]) => {
    const data = new DataTransfer();
    if (bytes) data.items.add(new File([new Uint8Array(bytes)], name, {type}));
    if (text) data.setData("text/uri-list", text);
    const target = document.querySelector(".terminal");
    const over = new DragEvent("dragover", {dataTransfer: data, bubbles: true, cancelable: true});
    const taken = !target.dispatchEvent(over);
    const lit = document.getElementById("drop").classList.contains("over");
    target.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    return [taken, lit];
}"""
CLIPBOARD = """async (bytes) => {
    const blob = new Blob([new Uint8Array(bytes)], {type: "image/png"});
    await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
}"""
SELECTED = "(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.activeElement)"


def picture(name, body):
    return {"name": name, "mimeType": "image/png", "buffer": body}


def choose(page, *files):
    page.set_input_files("input[name=file]", list(files))


def uploaded(page, count=1):
    """Wait until so many rows are done; return the links in them, newest first."""
    rows = page.locator(".row[data-state=done]")
    rows.nth(count - 1).wait_for()
    return [row.locator(".link").input_value() for row in rows.all()]


def opened(page):
    """Follow the newest row to the page of its picture, at the address under which the form was opened."""
    base = page.url.rstrip("/")
    uploaded(page)
    page.get_by_role("link", name="Open").first.click()
    page.wait_for_url(lambda url: url.startswith(base) and len(urlsplit(url).path) == 13)


def dropped_from_disk(page, *paths):
    """Drop files and folders as a person does from a file manager."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, "x": 200, "y": 600, "data": data})


def signed_in(page, server, key):
    """Sign this browser in with a key."""
    kind = "application/x-www-form-urlencoded"
    answer = server.request("POST", "/dashboard/sign-in", f"key={key}".encode(), {"Content-Type": kind})
    assert answer.status == 303, answer
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": server.base, "httpOnly": True}])


def copied(page):
    """Return what is in the clipboard, where the page may ask."""
    return page.evaluate("navigator.clipboard.readText()")


def deletions(page):
    """Note the addresses that a page asks to delete from now on."""
    sent = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "DELETE" else None)
    return sent

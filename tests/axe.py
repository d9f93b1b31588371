"""axe-core in a page of the test browser: what keeps people with a screen reader or a keyboard from using it."""

from pathlib import Path

AXE = Path(__file__).resolve().parent / "vendor" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async (tags) => {
    const found = await axe.run(document, {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"]});
    return found.violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) =>
        `${one.id}: ${one.help}: ` + one.nodes.map((node) => node.target.join(" ") + " " + node.failureSummary).join("; "));
}"""


def serious(page):
    """Return what axe-core calls serious or critical on a page as it stands now, one sentence each."""
    # By evaluation, not as a script element: the page's own policy stays in force and is not asked.
    page.evaluate(AXE.read_text(encoding="utf-8") + ";undefined")
    return page.evaluate(RUN, TAGS)

"""Drawings: nothing active, foreign or external comes through; what people draw does."""

import base64
import io
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imgpro.errors import FileTooLarge, ImageBroken, ImageTooLarge, ImgproError, UnsupportedFormat
from imgpro.imaging.containers import svg, svg_rules
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

LIMITS = Limits()
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'


def examine(data: bytes | str, limits: Limits = LIMITS) -> Examined:
    return svg.examine(memoryview(data.encode() if isinstance(data, str) else data), limits)


def cleaned(body: str, *, head: str = HEAD) -> str:
    """Sanitise a drawing with this content; what comes out must be stable."""
    source = f"{head}{body}</svg>".encode()
    examined = examine(source)
    result = source if examined.parts is None else b"".join(examined.parts)
    again = examine(result)
    assert again.parts is None
    assert again.removed == ()
    return result.decode()


def png(text: str = "", size: tuple[int, int] = (3, 3)) -> bytes:
    info = PngInfo()
    if text:
        info.add_text("Comment", text)
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG", pnginfo=info)
    return out.getvalue()


def address(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


# --- what must not come through -----------------------------------------------------------------------------------

HANDLERS = """
onload onclick onmouseover onfocus onfocusin onactivate onbegin onend onrepeat onerror onabort onresize onscroll
onunload onzoom onanimationstart ontransitionend onpointerdown onwheel OnLoad ONCLICK
"""
# Every vector carries the marker where its active or external part is; the marker must be gone.
VECTORS = [
    # scripts
    "<script>EVIL()</script>",
    '<script href="EVIL.js"/>',
    '<script xlink:href="EVIL.js"/>',
    '<script type="text/ecmascript"><![CDATA[EVIL()]]></script>',
    '<g><script xmlns="http://www.w3.org/1999/xhtml">EVIL()</script></g>',
    '<x:script xmlns:x="http://www.w3.org/1999/xhtml">EVIL()</x:script>',
    '<h:img xmlns:h="http://www.w3.org/1999/xhtml" src="x" onerror="EVIL()"/>',
    '<handler xmlns:ev="http://www.w3.org/2001/xml-events" ev:event="load">EVIL()</handler>',
    '<listener event="load" handler="#EVIL"/>',
    "<SCRIPT>EVIL()</SCRIPT>",
    "<title><script>EVIL()</script></title>",
    "<desc><g onload='EVIL()'/></desc>",
    "<defs><script>EVIL()</script></defs>",
    "<text><script>EVIL()</script></text>",
    # handlers
    *(f'<rect {name}="EVIL()"/>' for name in HANDLERS.split()),
    '<g on="EVIL"/>',
    # foreign content
    '<foreignObject><body xmlns="http://www.w3.org/1999/xhtml"><script>EVIL()</script></body></foreignObject>',
    '<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="javascript:EVIL()"/></foreignObject>',
    '<switch><foreignObject><input xmlns="http://www.w3.org/1999/xhtml" onfocus="EVIL()"/></foreignObject></switch>',
    '<iframe src="//EVIL"/>',
    '<embed src="EVIL.swf"/>',
    '<object data="EVIL.html"/>',
    '<audio src="EVIL.mp3"/>',
    '<video src="EVIL.mp4" autoplay="true"/>',
    '<math xmlns="http://www.w3.org/1998/Math/MathML"><maction actiontype="EVIL"/></math>',
    # addresses
    '<a href="javascript:EVIL()"><text>x</text></a>',
    '<a xlink:href="javascript:EVIL()"><text>x</text></a>',
    '<a href=" &#1 4;javascript:EVIL()"/>'.replace("&#1 4;", "&#9;"),
    '<a href="java&#9;script:EVIL()"/>',
    '<a href="JaVaScRiPt:EVIL()"/>',
    '<a href="vbscript:EVIL"/>',
    '<a href="data:text/html,EVIL"/>',
    '<a href="https://EVIL.example/"/>',
    '<a href="//EVIL.example/"/>',
    '<a href="EVIL.html#x"/>',
    '<use href="https://EVIL.example/x.svg#y"/>',
    '<use xlink:href="EVIL.svg#y"/>',
    '<use href="data:image/svg+xml;base64,EVIL#x"/>',
    '<image href="https://EVIL.example/pixel.png"/>',
    '<image xlink:href="//EVIL.example/pixel.png"/>',
    '<image href="file:///EVIL"/>',
    '<image href="\\\\EVIL\\share"/>',
    '<image href="data:image/svg+xml;base64,EVIL"/>',
    '<image href="data:text/html;base64,EVIL"/>',
    '<image href="data:image/png,EVIL"/>',
    '<image href="data:image/png;base64,EVIL"/>',
    '<image href="data:image/png;base64,EVIL!!"/>',
    '<image src="https://EVIL.example/"/>',
    '<linearGradient href="EVIL.svg#g"/>',
    '<textPath xlink:href="https://EVIL/"/>',
    '<rect href="#EVIL"/>',
    '<g xml:base="https://EVIL.example/"/>',
    # animation
    '<animate attributeName="href" values="javascript:EVIL()"/>',
    '<a><set attributeName="xlink:href" to="javascript:EVIL()"/></a>',
    '<animateTransform onbegin="EVIL()"/>',
    '<animateMotion><mpath xlink:href="EVIL"/></animateMotion>',
    '<discard begin="EVIL"/>',
    # filters
    '<filter id="EVIL"><feImage href="https://EVIL/"/></filter>',
    '<rect filter="url(#EVIL)"/>',
    '<rect style="filter:url(#EVIL)"/>',
    '<feImage xlink:href="EVIL"/>',
    # addresses in presentation attributes
    '<rect fill="url(https://EVIL.example/x)"/>',
    "<rect fill=\"url('//EVIL')\"/>",
    '<rect fill="URL( EVIL.svg#x )"/>',
    '<rect mask="url(data:image/svg+xml,EVIL)"/>',
    '<rect clip-path="url(&#x23;a) url(EVIL)"/>',
    '<rect fill="u\\72l(EVIL)"/>',
    '<rect fill="url/**/(EVIL)"/>',
    '<rect cursor="url(EVIL)"/>',
    '<rect fill="EVIL:x"/>',
    '<rect fill="EVIL\\3a"/>',
    '<rect fill="EVIL@x"/>',
    '<rect style="fill:EVIL\\31"/>',
    "<rect marker-start=\"image-set('EVIL' 1x)\"/>",
    "<rect fill=\"src('EVIL')\"/>",
    '<rect fill="expression(EVIL())"/>',
    # style attributes
    '<rect style="fill:url(https://EVIL)"/>',
    '<rect style="background:url(&quot;//EVIL&quot;)"/>',
    '<rect style="background-image:url(#EVIL)"/>',
    '<rect style="behavior:url(#EVIL)"/>',
    '<rect style="-moz-binding:url(#EVIL)"/>',
    '<rect style="width:expression(EVIL())"/>',
    '<rect style="f\\69ll:url(EVIL)"/>',
    '<rect style="fill:u\\000072l(EVIL)"/>',
    '<rect style="fill:u/**/rl(EVIL)"/>',
    '<rect style="fill:/*;*/url(//EVIL)"/>',
    '<rect style="fill:red;@import url(EVIL)"/>',
    '<rect style="--x:url(EVIL)"/>',
    '<rect style="fill:var(--EVIL)"/>',
    '<rect style="font-family:\'EVIL"/>',
    '<rect style="animation:EVIL 1s"/>',
    '<rect style="fill:attr(EVIL)"/>',
    '<rect style="content:&quot;EVIL&quot;"/>',
    '<rect style="color:red}EVIL{x:y"/>',
    # style sheets
    "<style>@import url(//EVIL);</style>",
    "<style>@import 'EVIL.css'; rect{fill:red}</style>",
    "<style>@font-face{font-family:x;src:url(EVIL)}</style>",
    "<style>@namespace EVIL url(x);</style>",
    "<style>rect{fill:url(//EVIL)}</style>",
    "<style>rect{background:image-set(url(EVIL) 1x)}</style>",
    "<style>@keyframes EVIL{from{fill:red}}</style>",
    "<style>@media screen{@import url(EVIL);rect{fill:url(EVIL)}}</style>",
    "<style>@media screen{@media print{rect{fill:EVIL}}}</style>",
    "<style>@supports (EVIL:x){rect{fill:red}}</style>",
    "<style>@\\69mport url(EVIL);</style>",
    "<style>rect[href^='EVIL']{fill:red}</style>",
    "<style>rect{fill:red;behavior:url(EVIL)}</style>",
    "<style>rect{fill:red}&lt;/style&gt;&lt;script&gt;EVIL()</style>",
    "<style><![CDATA[</style><script>EVIL()</script>]]></style>",
    "<style>/*</style><style>*/@import 'EVIL';</style>",
    "<style>a{}<!-- x -->@import 'EVIL';</style>",
    "<style type='text/less'>EVIL</style>",
    "<style>rect{fill:red;{EVIL:x}}</style>",
    # other things
    '<?xml-stylesheet href="EVIL.css"?>',
    '<?xml-stylesheet type="text/xsl" href="EVIL.xsl"?>',
    "<!-- EVIL -->",
    "<metadata>EVIL</metadata>",
    '<g xmlns:i="http://ns.adobe.com/x/" i:EVIL="1"><i:pgf>EVIL</i:pgf></g>',
    '<g data-EVIL="1"/>',
    "<g>EVIL</g>",
    '<cursor href="EVIL"/>',
    '<font-face-uri href="EVIL"/>',
    '<color-profile xlink:href="EVIL"/>',
    '<unknown EVIL="EVIL"/>',
    '<view viewTarget="EVIL"/>',
    '<tref xlink:href="EVIL"/>',
]


def test_the_corpus_is_large_and_marked() -> None:
    assert len(VECTORS) >= 60
    assert all("EVIL" in vector for vector in VECTORS)


@pytest.mark.parametrize("vector", VECTORS)
def test_active_and_foreign_content_goes(vector: str) -> None:
    result = cleaned(f'{vector}<rect id="stays" width="1" height="1"/>')
    assert "EVIL" not in result
    assert 'id="stays"' in result
    check_output(result)


def check_output(result: str) -> None:
    """Judge a sanitised drawing by a second parser: nothing outside the allow-list, no address outside the drawing."""
    root = ElementTree.fromstring(result)
    assert root.tag == f"{{{svg_rules.SVG}}}svg"
    for element in root.iter():
        assert element.tag.removeprefix(f"{{{svg_rules.SVG}}}") in svg_rules.ELEMENTS
        for name, value in element.attrib.items():
            local = name.rpartition("}")[2]
            assert not local.lower().startswith("on")
            if local == "href":
                assert value.startswith(("#", "data:image/"))
            elif local not in svg_rules.NAME_ATTRIBUTES:
                assert all(found.startswith("#") for found in re.findall(r"url\(\s*['\"]?(.)", value, re.IGNORECASE))
    assert "<!" not in result
    assert "<?" not in result


@pytest.mark.parametrize("attribute", ["onload", "xml:base", "style", "data-x", "onclick"])
def test_the_root_element_is_no_exception(attribute: str) -> None:
    result = cleaned("<g/>", head=f'{HEAD[:-1]} {attribute}="EVIL()">')
    assert "EVIL" not in result


def test_markup_in_text_and_values_stays_text() -> None:
    result = cleaned(
        '<text class="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;">&lt;script&gt;&amp;amp;<![CDATA[<b>]]></text>'
    )
    assert "<script" not in result
    assert "<b>" not in result
    text = ElementTree.fromstring(result)[0]
    assert text.text == "<script>&amp;<b>"
    assert text.get("class") == '"><script>alert(1)</script>'


@pytest.mark.parametrize(
    "source",
    [
        f'<!DOCTYPE svg [<!ENTITY x "y">]>{HEAD}<text>&x;</text></svg>',
        f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>{HEAD}<text>&x;</text></svg>',
        f'<!DOCTYPE svg [<!ENTITY % x SYSTEM "http://evil/">%x;]>{HEAD}</svg>',
        f'<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>{HEAD}<text>&b;</text></svg>',
        f'<!DOCTYPE svg [<!ATTLIST rect onload CDATA "evil()">]>{HEAD}<rect/></svg>',
        f"<!DOCTYPE svg []>{HEAD}</svg>",
        f'<?xml version="1.0" encoding="utf-7"?>{HEAD}</svg>',
        f'<?xml version="1.0" encoding="windows-1252"?>{HEAD}</svg>',
        f'<?xml version="1.0" encoding="x-evil"?>{HEAD}</svg>',
        "<html xmlns='http://www.w3.org/1999/xhtml'><svg/></html>",
        "<svg xmlns='http://www.w3.org/1999/xhtml'/>",
        b"\x1f\x8b\x08\0svgz",
    ],
)
def test_documents_of_another_kind_are_unsupported(source: str | bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        examine(source)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "<svg",
        HEAD,
        f"{HEAD}<g></svg>",
        f"{HEAD}</svg><svg/>",
        f"{HEAD}</svg>trailing",
        f"{HEAD}<rect x='1' x='2'/></svg>",
        f"{HEAD}<text>&nbsp;</text></svg>",
        f"{HEAD}<a:b/></svg>",
        f"{HEAD}<text>\x01</text></svg>",
        b"\xff" + HEAD.encode() + b"</svg>",
        HEAD.encode() + b"<text>\xc0\xbc</text></svg>",
        '<?xml version="1.0" encoding="utf-16"?>' + HEAD + "</svg>",
    ],
)
def test_what_is_not_well_formed_is_broken(source: str | bytes) -> None:
    with pytest.raises(ImageBroken):
        examine(source)


def test_a_plain_document_type_is_dropped() -> None:
    public = '"-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"'
    examined = examine(f'<?xml version="1.0"?><!DOCTYPE svg PUBLIC {public}>{HEAD}<g/></svg>')
    assert examined.parts is not None
    assert b"DOCTYPE" not in examined.parts[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "iso-8859-1"])
def test_encodings_become_utf8(encoding: str) -> None:
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    examined = examine((declared + HEAD + "<text>Größe</text></svg>").encode(encoding))
    assert examined.parts is not None
    assert "<text>Größe</text>" in bytes(examined.parts[0]).decode()


# --- what is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<script/>", "scripts"),
        ('<rect onclick="x"/>', "scripts"),
        ('<a href="javascript:x"/>', "scripts"),
        ("<animate/>", "scripts"),
        ("<!-- x -->", "comment"),
        ("<metadata/>", "application_data"),
        ('<g data-x="1"/>', "application_data"),
        ("<filter/>", "unknown_chunks"),
        ("<?x y?>", "unknown_chunks"),
    ],
)
def test_the_uploader_is_told(body: str, kind: str) -> None:
    assert examine(f"{HEAD}{body}</svg>").removed == (kind,)


# --- what must keep working ---------------------------------------------------------------------------------------

KEPT = [
    '<rect x="1" y="2" width="3" height="4" rx=".5" fill="#abc" fill-opacity="0.5" transform="rotate(45 1 2)"/>',
    '<path d="M0 0h10v10H0zM-1e-3,2.5a1 1 0 01.5.5" fill-rule="evenodd" stroke="rgb(1, 2, 3)" stroke-width="2"/>',
    '<polygon points="0,0 1,1 2,0" stroke-dasharray="1 2" stroke-linecap="round" vector-effect="non-scaling-stroke"/>',
    '<defs><linearGradient id="g" gradientUnits="userSpaceOnUse" x2="9"><stop offset="0" stop-color="red"/></linearGradient></defs>',
    '<g><stop offset="100%" stop-color="blue" stop-opacity=".3"/><rect fill="url(#g)"/></g>',
    '<radialGradient id="r" href="#g" fx="1" fy="2" spreadMethod="reflect"/><circle r="3" stroke="url(\'#r\') red"/>',
    '<clipPath id="c"><circle cx="5" cy="5" r="4"/></clipPath><g clip-path="url(#c)"><ellipse rx="3" ry="2"/></g>',
    '<mask id="m" maskUnits="userSpaceOnUse"><rect fill="white"/></mask><rect mask="url(#m)"/>',
    '<pattern id="p" width="2" height="2" patternUnits="userSpaceOnUse"><path d="M0 0h1"/></pattern>',
    '<marker id="k" markerWidth="4" refX="2" orient="auto"><path d="M0 0"/></marker><line marker-end="url(#k)"/>',
    '<symbol id="s" viewBox="0 0 1 1"><rect/></symbol><use href="#s" x="1"/><use xlink:href="#s" y="1"/>',
    '<text x="1" font-family="\'DejaVu Sans\', sans-serif" text-anchor="middle">a &lt; b<tspan dy="1">c</tspan></text>',
    '<path id="curve" d="M0 0"/><text><textPath xlink:href="#curve" startOffset="50%">round</textPath></text>',
    '<g style="fill:none;stroke:#000;stroke-width:2px;stroke-linejoin:round;mix-blend-mode:multiply"/>',
    "<style>.cls-1{fill:#e8e8e8}\n.cls-2,.cls-3 &gt; path:nth-child(2n+1){fill:none;stroke:url(#g)}</style>",
    "<style>@media (prefers-color-scheme: dark){path{fill:#fff}}</style>",
    '<svg x="1" viewBox="0 0 1 1" preserveAspectRatio="xMidYMid slice"><g/></svg>',
    '<switch><g systemLanguage="de"/><g/></switch>',
    '<title>Plan</title><desc>What it shows</desc><g role="img" aria-label="x"/>',
    '<a href="#s"><rect/></a>',
    f'<image width="3" height="3" href="{address(png())}"/>',
    f'<image width="3" height="3" xlink:href="{address(png())}"/>',
    '<g xml:space="preserve" opacity="0.5" display="none" visibility="hidden"/>',
    '<rect transform="matrix(1 0 0 1 2 3) translate(1,2) scale(.5) skewX(3)" width="calc(100% - (2px + 1px))"/>',
]


@pytest.mark.parametrize("body", KEPT)
def test_drawings_come_through_unchanged(body: str) -> None:
    uses_links = "xlink:" in body
    head = HEAD if uses_links else HEAD.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    source = f"{head}{body}</svg>\n"
    examined = examine(source)
    assert examined.removed == ()
    assert examined.parts is None or bytes(examined.parts[0]).decode() == source


def test_style_sheets_lose_only_what_is_not_allowed() -> None:
    result = cleaned(
        "<style><![CDATA[/* head */ @charset 'x'; .a { fill : red ; filter : blur(2px); stroke:blue !important }"
        "\n.b{}\n@font-face{src:url(x)} .c>.d{opacity:.5}]]></style>"
    )
    assert ".a{fill:red;stroke:blue !important}\n.c&gt;.d{opacity:.5}" in result


def test_a_drawing_without_namespace_gets_one() -> None:
    examined = examine('<svg width="4" height="5"><rect/></svg>')
    assert examined.parts is not None
    assert bytes(examined.parts[0]).startswith(b'<svg xmlns="http://www.w3.org/2000/svg" width="4"')
    assert b"<rect/>" in bytes(examined.parts[0])


def test_prefixed_elements_are_written_without_prefix() -> None:
    examined = examine('<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:rect width="1"/></s:svg>')
    assert examined.parts is not None
    assert b'<rect width="1"/>' in bytes(examined.parts[0])


def test_embedded_pictures_are_cleaned_too() -> None:
    dirty = address(png("made by Alice"))
    examined = examine(f'{HEAD}<image href="{dirty}"/></svg>')
    assert examined.parts is not None
    result = bytes(examined.parts[0]).decode()
    assert address(png()) in result
    assert set(examined.removed) & {"comment", "text"}


def test_embedded_pictures_are_named_for_what_they_are() -> None:
    assert 'href="data:image/png;base64,' in cleaned(f'<image href="{address(png(), "jpeg")}"/>')
    assert "href" not in cleaned(f'<image href="{address(b"<svg/>")}"/>')


@pytest.mark.parametrize("element", ["use", "a", "pattern", "textPath", "rect"])
def test_only_images_embed_pictures(element: str) -> None:
    assert "href" not in cleaned(f'<{element} href="{address(png())}"/>').replace("xlink", "")


def test_embedded_bombs_go() -> None:
    source = f'{HEAD}<image href="{address(png(size=(50, 50)))}"/></svg>'
    examined = examine(source, Limits(max_pixels=2_000))
    assert examined.parts is not None
    assert b"href" not in bytes(examined.parts[0])


# --- size ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ("", (300, 150)),
        ('width="40" height="20"', (40, 20)),
        ('width="40px" height="20.4"', (40, 20)),
        ('width="1in" height="25.4mm"', (96, 96)),
        ('width="3pt" height="1pc"', (4, 16)),
        ('viewBox="0 0 24 12"', (24, 12)),
        ('viewBox="-5,-5,24.6,12"', (25, 12)),
        ('width="100%" height="100%" viewBox="0 0 24 12"', (24, 12)),
        ('width="48" viewBox="0 0 24 12"', (48, 24)),
        ('height="48" viewBox="0 0 24 12"', (96, 48)),
        ('width="48"', (48, 150)),
        ('width="0" height="-3" viewBox="0 0 0 0"', (300, 150)),
        ('width="0.01" height="0.01"', (1, 1)),
        ('width="1e9" height="999999999999"', (20_000, 20_000)),
        ('width="1e-30" viewBox="0 0 1e9 1e-9"', (1, 1)),
        ('width="nonsense" height="1e9999"', (300, 150)),
    ],
)
def test_intrinsic_size(attributes: str, size: tuple[int, int]) -> None:
    probe = examine(f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}/>').probe
    assert (probe.width, probe.height) == size
    assert probe.format == "svg"


# --- limits -------------------------------------------------------------------------------------------------------


def test_svg_can_be_switched_off() -> None:
    with pytest.raises(UnsupportedFormat, match="turned off"):
        examine(f"{HEAD}</svg>", Limits(svg=False))


def test_limits() -> None:
    with pytest.raises(FileTooLarge):
        examine(f"{HEAD}</svg>", Limits(max_svg_bytes=50))
    assert cleaned("<g>" * 127 + "</g>" * 127)
    with pytest.raises(ImageTooLarge):
        examine(HEAD + "<g>" * 128 + "</g>" * 128 + "</svg>")
    with pytest.raises(ImageTooLarge):
        examine(HEAD + "<script>" * 200_000 + "</script>" * 200_000 + "</svg>")
    with pytest.raises(ImageTooLarge):
        examine(HEAD + "<g/>" * 200_000 + "</svg>")
    assert "class" not in cleaned(f'<g class="{"x" * 70_000}"/>')
    assert len(cleaned(f'<path d="{"M0 0" * 50_000}"/>')) > 200_000


@pytest.mark.parametrize("reference", ['<use href="#{}"/>', '<rect fill="url(#{})"/>', '<g style="mask:url(#{})"/>'])
def test_repetition_bombs(reference: str) -> None:
    levels = "".join(f'<g id="n{n + 1}">{reference.format(f"n{n}") * 10}</g>' for n in range(9))
    with pytest.raises(ImageTooLarge):
        examine(f'{HEAD}<g id="n0"/>{levels}</svg>')
    few = "".join(f'<g id="n{n + 1}">{reference.format(f"n{n}") * 2}</g>' for n in range(9))
    assert cleaned(f'<g id="n0"/>{few}')


def test_references_in_circles_end() -> None:
    assert cleaned('<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/><use href="#b"/></g>')


def test_long_chains_of_references_need_no_stack() -> None:
    chain = "".join(f'<use id="u{n}" href="#u{n + 1}"/>' for n in range(50_000))
    with pytest.raises(ImageTooLarge):
        examine(f"{HEAD}{chain}</svg>")  # 50,000 + 49,999 + ... drawn elements
    assert cleaned("".join(f'<use id="u{n}" href="#u{n + 1}"/>' for n in range(1_500)))


# --- anything at all ----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(sorted(svg_rules.ELEMENTS | svg_rules.ACTIVE_ELEMENTS | {"filter", "metadata", "x"}))
ATTRIBUTES = st.sampled_from(sorted(svg_rules.ATTRIBUTES | {"id", "class", "style", "href", "onload", "xlink:href"}))
VALUES = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20),
    st.lists(
        st.sampled_from(
            [
                "url(",
                ")",
                "#a",
                "'",
                '"',
                ";",
                ":",
                "fill",
                "red",
                "{",
                "}",
                "@import",
                "/*",
                "*/",
                "\\",
                "rgb(",
                "1",
                ",",
                "javascript:",
                "data:image/png;base64,",
                "calc(",
                "!",
                " ",
                "\n",
            ]
        ),
        max_size=12,
    ).map("".join),
)


def escaped(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("\n", "&#10;")


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = draw(NAMES)
    pairs = draw(st.dictionaries(ATTRIBUTES, VALUES, max_size=4))
    inner = "".join(draw(st.lists(elements(depth + 1), max_size=2))) if depth < 3 else ""
    text = escaped(draw(VALUES))
    attributes = "".join(f' {key}="{escaped(value)}"' for key, value in pairs.items())
    return f"<{name}{attributes}>{text}{inner}</{name}>"


@given(elements())
def test_any_drawing_comes_out_clean_and_stable(body: str) -> None:
    try:
        result = cleaned(body)
    except ImgproError:
        return
    check_output(result)
    for sheet in re.findall(r"<style[^>]*>([^<]*)</style>", result):
        assert "@import" not in sheet.lower()
        assert all(found.startswith("#") for found in re.findall(r"url\(\s*(?:&quot;|['\"])?(.)", sheet, re.IGNORECASE))

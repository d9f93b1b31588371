"""Pictures for tests of what happens to pixels, and how alike two of them look."""

from io import BytesIO
from typing import Any

from PIL import Image, ImageCms, ImageDraw, ImageMath

CELL = 7


def make_image(mode: str = "RGB", size: tuple[int, int] = (600, 450)) -> Image.Image:
    """Return a picture with a gradient, edges, and a different colour in each corner, so that no turn looks alike."""
    width, height = size
    across = Image.linear_gradient("L").rotate(90).resize(size)
    image = Image.merge("RGB", (across, Image.linear_gradient("L").resize(size), Image.new("L", size, 90)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 4, height // 4), fill=(230, 20, 20))
    draw.rectangle((width * 3 // 4, 0, width, height // 4), fill=(20, 200, 30))
    draw.rectangle((0, height * 3 // 4, width // 4, height), fill=(240, 240, 240))
    draw.ellipse((width // 3, height // 3, width * 2 // 3, height * 2 // 3), fill=(30, 40, 200))
    if mode in ("RGBA", "LA"):
        image.putalpha(across.point(lambda value: 255 if value > 100 else value))
    return image if image.mode == mode else image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the picture as a file of the Pillow format `kind`."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def film(kind: str, frames: int = 5, size: tuple[int, int] = (500, 400), **options: Any) -> bytes:
    """Return an animation in which a square wanders; `duration` and `loop` as Pillow takes them."""
    pictures = []
    for number in range(frames):
        picture = make_image("RGB", size)
        left = number * size[0] // frames
        ImageDraw.Draw(picture).rectangle((left, 10, left + 30, 40), fill=(255, 255, 0))
        pictures.append(picture)
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


def turned_exif(orientation: int) -> bytes:
    """Return an EXIF block that says how the picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def swapped_profile() -> bytes:
    """Return an RGB profile in which red and green have changed places: what it does cannot be overlooked."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    where = profile.find("sRGB".encode("utf-16-be"))
    if where >= 0:
        profile[where : where + 8] = "odd!".encode("utf-16-be")
    return bytes(profile)


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Return the structural similarity of two pictures of one size: 1.0 is the same, 0.9 is visibly different."""
    assert one.size == other.size
    a, b = (image.convert("RGB").convert("L").convert("F") for image in (one, other))

    def mean(image: Image.Image) -> Image.Image:
        width, height = (side // CELL * CELL for side in image.size)
        return image.crop((0, 0, width, height)).reduce(CELL)

    def product(x: Image.Image, y: Image.Image) -> Image.Image:
        return mean(ImageMath.lambda_eval(lambda v: v["x"] * v["y"], x=x, y=y))

    values = {"a": mean(a), "b": mean(b), "aa": product(a, a), "bb": product(b, b), "ab": product(a, b)}
    score = ImageMath.lambda_eval(
        lambda v: (
            ((v["a"] * v["b"] * 2 + 6.5) * ((v["ab"] - v["a"] * v["b"]) * 2 + 58.5))
            / (
                (v["a"] * v["a"] + v["b"] * v["b"] + 6.5)
                * (v["aa"] - v["a"] * v["a"] + v["bb"] - v["b"] * v["b"] + 58.5)
            )
        ),
        **values,
    )
    raw = memoryview(score.tobytes()).cast("f")
    return sum(raw) / len(raw)

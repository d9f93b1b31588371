import pytest

from imgpro import recipes


@pytest.mark.parametrize(
    ("width", "height", "size", "expected"),
    [
        (4000, 3000, "s", (426, 320)),
        (3000, 4000, "s", (320, 426)),
        (4000, 3000, "m", (853, 640)),
        (4000, 3000, "l", (1440, 1080)),
        (4000, 3000, "o", (4000, 3000)),
        (320, 5000, "s", (320, 5000)),
        (100, 100, "s", (100, 100)),
        (321, 321, "s", (320, 320)),
        (10000, 321, "s", (9968, 320)),
    ],
)
def test_the_short_edge_is_fixed_and_the_long_one_floored(width, height, size, expected):
    assert recipes.target_size(width, height, size) == expected


@pytest.mark.parametrize("size", [None, "", "xl", "S", "o", "320", "../m"])
def test_an_unknown_size_means_the_original(size):
    assert recipes.parse("webp", size).size == "o"


def test_jpg_and_jpeg_are_one_recipe():
    assert recipes.parse("jpg", "m") is recipes.parse("jpeg", "m")
    assert recipes.parse("tiff", "m") is None


def test_stored_bytes_are_served_when_nothing_would_change():
    assert recipes.resolve(recipes.parse("jpeg", None), "jpeg", 4000, 3000) is None
    assert recipes.resolve(recipes.parse("jpeg", "m"), "jpeg", 600, 500) is None
    assert recipes.resolve(recipes.parse("webp", "m"), "jpeg", 600, 500) == recipes.parse("webp", "o")
    assert recipes.resolve(recipes.parse("jpeg", "m"), "jpeg", 4000, 3000) == recipes.parse("jpeg", "m")


def test_keys_are_unique_and_carry_the_pipeline_version():
    keys = {recipe.key for recipe in recipes.ALL.values()}
    assert len(keys) == len(recipes.ALL)
    assert all(f"-{recipes.PIPELINE_VERSION}." in key for key in keys)

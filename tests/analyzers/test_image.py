from __future__ import annotations

import cv2
import numpy as np
import pytest

from deepfake.analyzers.image import STABILITY_QUALITY, recompress, spread_over
from deepfake.preprocess import Box
from tests.media_files import scene


@pytest.mark.parametrize("size", [(211, 317), (64, 64), (40, 300)])
def test_recompressed_windows_are_those_of_the_recompressed_picture(size: tuple[int, int]) -> None:
    height, width = size
    pixels = scene(width, height)
    settings = [cv2.IMWRITE_JPEG_QUALITY, STABILITY_QUALITY]
    _, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], settings)
    whole = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
    side = 48
    for left in range(0, max(1, width - side), 37):
        for top in range(0, max(1, height - side), 29):
            box = Box(left, top, min(side, width), min(side, height))
            expected = whole[top : top + box.height, left : left + box.width]
            np.testing.assert_array_equal(recompress(pixels, box), expected)


def test_indexes_are_spread_evenly() -> None:
    assert spread_over(12, most=4) == [0, 4, 7, 11]
    assert spread_over(3, most=4) == [0, 1, 2]
    assert spread_over(1, most=4) == [0]
    assert [spread_over(count, most=1) for count in (1, 2, 3, 4)] == [[0], [0], [1], [1]]
